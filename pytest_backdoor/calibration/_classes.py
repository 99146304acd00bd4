"""What clean models of a task measure for each class, and how far another model lies from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

SHRINKAGE = 0.5
SMALLEST_VARIANCE = 1e-12
# Chosen on clean networks of digits: those of the reference networks' architecture reach 1.2, of others 1.5 to 8. Most
# backdoors have one target and stay below 2, those from every class to another reach 3 to 4.
BROAD = 3.0
BROAD_NOTE = (
    "Most classes deviate here, not one: an all-to-all backdoor looks like this, and so does a clean model of another "
    "architecture or training than the detector pack's reference models."
)


@dataclass(frozen=True, kw_only=True)
class ClassStatistics:
    """What clean models measure for each class, or for whatever else the arrays' entries stand for.

    ``mean`` and ``spread``: float32 arrays of one shape; each spread, a standard deviation, is above 0.
    """

    mean: np.ndarray[Any, Any]
    spread: np.ndarray[Any, Any]

    def deviations(self, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """By how many standard deviations each of ``values`` lies above the mean; float64, of the same shape."""
        import numpy as np

        deviations: np.ndarray[Any, Any] = (np.asarray(values, np.float64) - self.mean) / self.spread
        return deviations


def broad_note(deviations: np.ndarray[Any, Any]) -> str:
    """What a reader must know where the median of all ``deviations`` is large, in either direction; else empty."""
    import numpy as np

    finite = deviations[np.isfinite(deviations)]
    return BROAD_NOTE if finite.size and float(np.median(np.abs(finite))) > BROAD else ""


def class_statistics(values: np.ndarray[Any, Any]) -> ClassStatistics:
    """The statistics of ``values``, float ``(N, ...)``, of N clean models.

    Half of each variance is the median of all variances: of few models, those of single entries are guesses. Raises
    ValueError for fewer than two models.
    """
    import numpy as np

    if len(values) < 2:
        raise ValueError("Class statistics need two or more clean models.")
    table = np.asarray(values, np.float64)
    variance = table.var(axis=0, ddof=1)
    spread = np.sqrt((1 - SHRINKAGE) * variance + SHRINKAGE * np.median(variance) + SMALLEST_VARIANCE)
    return ClassStatistics(mean=table.mean(axis=0).astype(np.float32), spread=spread.astype(np.float32))


def held_out_scores(
    values: np.ndarray[Any, Any], score: Callable[[np.ndarray[Any, Any], ClassStatistics], float]
) -> np.ndarray[Any, Any]:
    """Float ``(N,)``: the score of each of N clean models by the statistics of the others.

    ``values``: float ``(N, ...)``. A model that were part of its own statistics would look cleaner than a new one does.
    """
    import numpy as np

    return np.array([score(own, class_statistics(np.delete(values, row, axis=0))) for row, own in enumerate(values)])
