"""From answers to litmus patterns to one score: the pooling g and classifier h of eq. 1, and one that is not there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

Pooling = Literal["concatenation", "mean", "max", "symmetric-sum", "symmetric-max"]
# These are not in the paper.
SYMMETRIC: tuple[Pooling, ...] = ("symmetric-sum", "symmetric-max")
SMALLEST_SPREAD = 1e-3


@dataclass(frozen=True, kw_only=True)
class FittedClassifier:
    """A finished classifier of standardised logits.

    ``weights``: float ``(M·K,)``, or ``(K,)`` where pooling over patterns leaves one feature for each class. ``bias``
    and ``gain``: floats. ``offsets``: float ``(K,)`` for "symmetric-sum", ``(M·K,)`` for "symmetric-max", else None.
    """

    pooling: Pooling
    weights: torch.Tensor
    bias: float
    gain: float = 1.0
    offsets: torch.Tensor | None = None

    def scores(self, features: torch.Tensor) -> torch.Tensor:
        """Float ``(N,)``: the log-odds that each network is backdoored, of features ``(N, M, K)``."""
        if self.offsets is None:
            return pooled(features, self.pooling) @ self.weights + self.bias
        deviations = _deviations(features * self.weights.view(features.shape[1:]), self.pooling)
        return self.gain * (deviations + self.offsets).logsumexp(1) + self.bias


def pooled(features: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """Features ``(N, M, K)`` pooled over patterns: ``(N, M·K)`` by concatenation, else ``(N, K)``."""
    if pooling == "mean":
        return features.mean(1)
    return features.amax(1) if pooling == "max" else features.flatten(1)


class LinearClassifier(nn.Module):
    """The paper's classifier: pooling over patterns, then one linear layer.

    It has one output, which for two classes is the same as a softmax over two. ``rate_factor``: how much faster than
    ``PatternPlan.classifier_rate`` it learns.
    """

    rate_factor = 1.0

    def __init__(self, pooling: Pooling, patterns: int, classes: int) -> None:
        super().__init__()
        self.pooling = pooling
        self.weights = nn.Parameter(torch.zeros(classes * (patterns if pooling == "concatenation" else 1)))
        self.bias = nn.Parameter(torch.zeros(()))

    def forward(self, features: torch.Tensor, poisoned: torch.Tensor) -> torch.Tensor:
        """Scores ``(N,)`` of a batch of networks, of features ``(N, M, K)``."""
        return pooled(features, self.pooling) @ self.weights + self.bias

    def finished(self, clean: torch.Tensor | None) -> FittedClassifier:
        """The classifier as it is now; ``clean``, features of clean networks, are of no use to it."""
        return FittedClassifier(pooling=self.pooling, weights=self.weights.detach().clone(), bias=self.bias.item())


class SymmetricClassifier(nn.Module):
    """One that has to learn nothing about single classes.

    Each logit is measured by how far it is from what clean networks answer, in units of their spread, and weighed by
    one weight for each pattern. For "symmetric-sum" these deviations are summed up over patterns; for "symmetric-max"
    they are not, since a backdoor of one source class may show on one pattern alone. The score is the log-sum-exp of
    them all: any class may be the one that shows it. A linear classifier has M·K weights to learn, and sees few
    networks with each target; this one has M + 2, and everything else about classes comes from clean networks. Not in
    Universal Litmus Patterns.
    """

    def __init__(self, pooling: Pooling, patterns: int) -> None:
        super().__init__()
        self.pooling = pooling
        # Single deviations are smaller than sums of them, so that there the gain has a longer way to go.
        self.rate_factor = 3.0 if pooling == "symmetric-max" else 1.0
        self.weights = nn.Parameter(torch.full((patterns,), 1 / patterns))
        self.gain = nn.Parameter(torch.tensor(0.5))
        self.bias = nn.Parameter(torch.tensor(-1.0))

    def forward(self, features: torch.Tensor, poisoned: torch.Tensor) -> torch.Tensor:
        """Scores ``(N,)`` of a batch of networks, of features ``(N, M, K)``; its own clean networks are the measure."""
        centre, spread = _clean_answers(features[~poisoned])
        deviations = _deviations((features - centre) / spread * self.weights[:, None], self.pooling)
        scores: torch.Tensor = self.gain * deviations.logsumexp(1) + self.bias
        return scores

    @torch.no_grad()
    def finished(self, clean: torch.Tensor | None) -> FittedClassifier:
        """The classifier as it is now, measuring by ``clean``: the features of two or more clean networks."""
        assert clean is not None
        centre, spread = _clean_answers(clean)
        weights = self.weights[:, None] / spread
        return FittedClassifier(
            pooling=self.pooling,
            weights=weights.flatten(),
            bias=self.bias.item(),
            gain=self.gain.item(),
            offsets=_deviations((-weights * centre)[None], self.pooling)[0],
        )


def make_classifier(pooling: Pooling, patterns: int, classes: int) -> LinearClassifier | SymmetricClassifier:
    """A classifier that has seen no network yet."""
    if pooling in SYMMETRIC:
        return SymmetricClassifier(pooling, patterns)
    return LinearClassifier(pooling, patterns, classes)


def _deviations(weighted: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """What a class-symmetric score is the log-sum-exp of: sums over patterns ``(N, K)``, or all ``(N, M·K)``."""
    return weighted.sum(1) if pooling == "symmetric-sum" else weighted.flatten(1)


def _clean_answers(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and spread ``(M, K)`` of clean networks' features ``(N, M, K)``.

    Half of the variance is that of the pattern's answers for all classes: a class that the few networks happen to agree
    upon is not taken for one that all networks agree upon.
    """
    variance = features.var(0)
    shared = (variance + variance.mean(1, keepdim=True)) / 2
    return features.mean(0), shared.sqrt() + SMALLEST_SPREAD
