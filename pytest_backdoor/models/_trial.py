"""How well a model classifies labelled samples under several ways to prepare them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import ModelError
from ._preprocessing import Preprocessing

if TYPE_CHECKING:
    import numpy as np

    from ._classifier import OpenedModel
    from ._samples import Samples

LOWEST_ACCURACY = 0.5
LOWEST_KAPPA = 0.2
FIRST_LOOK = 50
HOPELESS = 0.3


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A way to prepare images, under the name that a report gives it."""

    name: str
    preprocessing: Preprocessing


@dataclass(frozen=True, kw_only=True)
class Trial:
    """How well a model classifies samples under a candidate.

    ``accuracy``: the share of right answers, in [0, 1]. ``kappa``: Cohen's kappa (Cohen 1960), the accuracy beyond what
    the same numbers of answers of each class would get by chance; at most 1, and 0 for a model that always gives one
    answer, however many samples are of that class. ``loss``: the mean cross-entropy, in nats. Logits that are too small
    or too large for the model, as those of images in a wrong range often are, make it large where answers stay right.
    """

    candidate: Candidate
    accuracy: float
    kappa: float
    loss: float

    @property
    def fits(self) -> bool:
        """Whether the model classifies the samples at all."""
        return self.accuracy >= LOWEST_ACCURACY and self.kappa >= LOWEST_KAPPA


def run_trials(model: OpenedModel, candidates: Sequence[Candidate], samples: Samples) -> list[Trial]:
    """One trial for each of the ``candidates`` that is worth it, in their order.

    All are tried on up to 50 samples first, spread over all. Those that the best one is more than 0.3 ahead of are left
    out, except for the first candidate, and the others are tried on the rest too: the difference of two shares of 50
    has a standard deviation of at most 0.14.
    """
    import numpy as np

    assert samples.labels is not None
    labels = samples.labels
    first = np.unique(np.linspace(0, len(labels) - 1, min(FIRST_LOOK, len(labels))).round().astype(int))
    rest = np.setdiff1d(np.arange(len(labels)), first)
    answers = [_answers(model, candidate, samples.images[first]) for candidate in candidates]
    shares = [float((found.argmax(axis=1) == labels[first]).mean()) for found in answers]
    trials = []
    for number, candidate in enumerate(candidates):
        if number and shares[number] < max(shares) - HOPELESS:
            continue
        found = np.empty((len(labels), model.classes), np.float32)
        found[first] = answers[number]
        if len(rest):
            found[rest] = _answers(model, candidate, samples.images[rest])
        trials.append(_trial(candidate, found, labels))
    return trials


def _answers(model: OpenedModel, candidate: Candidate, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Logits, float32 ``(N, classes)``; all 0 if the model cannot take the images so, or gives no finite numbers."""
    import numpy as np

    try:
        found: np.ndarray[Any, Any] = model.with_preprocessing(candidate.preprocessing).logits(images)
    except ModelError:
        found = np.zeros((len(images), model.classes), np.float32)
    return found


def _trial(candidate: Candidate, logits: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> Trial:
    import numpy as np

    found = logits.argmax(axis=1)
    accuracy = float((found == labels).mean())
    chance = sum(float((found == number).mean() * (labels == number).mean()) for number in np.unique(labels))
    kappa = (accuracy - chance) / (1 - chance) if chance < 1 else 0.0
    below = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    losses = np.log(np.exp(below).sum(axis=1)) - below[np.arange(len(labels)), labels]
    return Trial(candidate=candidate, accuracy=accuracy, kappa=kappa, loss=float(losses.mean()))
