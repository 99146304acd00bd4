"""Are training images and clean samples alike? An exact test that needs no model of their scores."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

DEPTHS = (1, 4, 16)
FEWEST_CLEAN = 10
SMALLEST_P = 1e-300


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One score of one class: how many training images have more than the ``depth``-th highest clean sample.

    ``log_p``: natural logarithm of the probability of so many or more if the images were exchangeable.
    """

    score: str
    label: int
    depth: int
    above: int
    training: int
    clean: int
    log_p: float


@dataclass(frozen=True, kw_only=True)
class Comparisons:
    """All comparisons that were made; ``missing``: the labels of training images that had too few clean samples."""

    made: tuple[Comparison, ...]
    missing: tuple[int, ...]

    @property
    def worst(self) -> Comparison:
        """The one with the smallest p-value."""
        return min(self.made, key=lambda comparison: comparison.log_p)

    @property
    def log_p(self) -> float:
        """The logarithm of the p-value of all together: the smallest times their number (Bonferroni), at most 0."""
        return min(0.0, self.worst.log_p + math.log(len(self.made)))

    @property
    def p_value(self) -> float:
        """In (0, 1]; what is smaller than 1e-300 is told as that."""
        return max(SMALLEST_P, math.exp(self.log_p))

    def of_class(self, label: int) -> tuple[Comparison, ...]:
        """Those of one class."""
        return tuple(comparison for comparison in self.made if comparison.label == label)

    def labels(self) -> tuple[int, ...]:
        """The classes that were compared, those with the smallest p-values first."""
        best = {label: min(own.log_p for own in self.of_class(label)) for label in {c.label for c in self.made}}
        return tuple(sorted(best, key=lambda label: (best[label], label)))

    def fewest_to_fail(self, label: int, significance: float) -> int | None:
        """How many images of a class would have to have more than any clean sample; None if all were too few."""
        training, clean = next((c.training, c.clean) for c in self.made if c.label == label)
        limit = math.log(significance) - math.log(len(self.made))
        low, high = 1, training + 1
        while low < high:
            middle = (low + high) // 2
            if log_p_value(middle, training, clean, depth=1) <= limit:
                high = middle
            else:
                low = middle + 1
        return low if low <= training else None


def log_p_value(above: int, training: int, clean: int, *, depth: int) -> float:
    """The logarithm of P(A >= ``above``), where A of ``training`` images come before the ``depth``-th clean sample.

    All ``training`` + ``clean`` are in random order, each order equally likely, as the order by any score is if the
    images are exchangeable. A then has the negative hypergeometric distribution, whatever that of the score. A >= a
    means that among the first a + depth - 1 fewer than depth are clean: a sum of hypergeometric probabilities.
    Raises ValueError for numbers that cannot be.
    """
    if not (0 <= above <= training and 1 <= depth <= clean):
        raise ValueError(f"{above} of {training} above the {depth}-th of {clean} cannot be.")
    if above == 0:
        return 0.0
    drawn = above + depth - 1
    terms = [
        _log_choose(clean, number) + _log_choose(training, drawn - number)
        for number in range(depth)
        if drawn - number <= training
    ]
    highest = max(terms)
    total = highest + math.log(sum(math.exp(term - highest) for term in terms))
    return min(0.0, total - _log_choose(training + clean, drawn))


def _log_choose(total: int, chosen: int) -> float:
    return math.lgamma(total + 1) - math.lgamma(chosen + 1) - math.lgamma(total - chosen + 1)


def compare(
    scores: Mapping[str, np.ndarray[Any, Any]], labels: np.ndarray[Any, Any], clean: np.ndarray[Any, Any]
) -> Comparisons:
    """Compare training images with clean samples of the same label, by each of several scores.

    ``scores``: float ``(M,)`` by name, higher is more suspicious. ``labels``: int64 ``(M,)``. ``clean``: bool
    ``(M,)``. Training images that are as high as a clean sample do not count as higher, which can only raise p. The
    depths are 1, 4 and 16, as far as they are at most a fifth of the clean samples of a class: deeper ones bear with
    odd clean samples. A class needs 10 clean samples.
    """
    made, missing = [], []
    for label in np.unique(labels[~clean]).tolist():
        own = labels == label
        ours, theirs = own & ~clean, own & clean
        count = int(theirs.sum())
        if count < FEWEST_CLEAN:
            missing.append(int(label))
            continue
        for name, values in scores.items():
            ranked, held = np.sort(values[ours]), np.sort(values[theirs])[::-1]
            for depth in (depth for depth in DEPTHS if depth == 1 or 5 * depth <= count):
                above = len(ranked) - int(np.searchsorted(ranked, held[depth - 1], side="right"))
                made.append(
                    Comparison(
                        score=name,
                        label=int(label),
                        depth=depth,
                        above=above,
                        training=len(ranked),
                        clean=count,
                        log_p=log_p_value(above, len(ranked), count, depth=depth),
                    )
                )
    return Comparisons(made=tuple(made), missing=tuple(missing))
