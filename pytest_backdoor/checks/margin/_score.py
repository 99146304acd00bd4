"""From margins to one score, with nothing but NumPy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from ...calibration import ClassStatistics


def margin_deviations(margins: np.ndarray[Any, Any], statistics: ClassStatistics | None = None) -> np.ndarray[Any, Any]:
    """How far each of ``margins``, of any shape, lies above what clean networks of the task have; the same shape.

    ``statistics``: those of clean networks, of the same shape. Without them the median of the model's own margins is
    taken off. Raises ValueError if the shapes do not fit or a number is not finite.
    """
    import numpy as np

    values = np.asarray(margins, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError("A margin is not a finite number.")
    if statistics is None:
        own: np.ndarray[Any, Any] = values - np.median(values)
        return own
    if values.shape != statistics.mean.shape:
        raise ValueError(f"The margins have shape {values.shape}, the statistics {statistics.mean.shape}.")
    return statistics.deviations(values)


def margin_score(margins: np.ndarray[Any, Any], statistics: ClassStatistics | None = None) -> float:
    """The largest deviation; see ``margin_deviations``. Higher is more suspicious."""
    return float(margin_deviations(margins, statistics).max())
