"""From margins to one score, with nothing but NumPy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


def margin_deviations(
    margins: np.ndarray[Any, Any],
    mean: np.ndarray[Any, Any] | None = None,
    spread: np.ndarray[Any, Any] | None = None,
) -> np.ndarray[Any, Any]:
    """How far each of ``margins``, of any shape, lies above what clean networks of the task have; the same shape.

    ``mean`` and ``spread``: mean and standard deviation of each margin among clean networks, of the same shape or
    flattened. Half of each variance is that of all margins together, since a spread that is estimated from few
    networks, or of a margin that hardly varies, would make chance look like a deviation. Without them the median of
    the model's own margins is taken off. Raises ValueError if the shapes do not fit or the numbers are not finite.
    """
    import numpy as np

    values = np.asarray(margins, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError("A margin is not a finite number.")
    if mean is None or spread is None:
        own: np.ndarray[Any, Any] = values - np.median(values)
        return own
    if values.size != mean.size or values.size != spread.size:
        raise ValueError(f"There are {values.size} margins, {mean.size} means and {spread.size} spreads.")
    variance = np.square(np.asarray(spread, dtype=np.float64)).reshape(values.shape)
    pooled = np.sqrt((variance + variance.mean()) / 2)
    deviations: np.ndarray[Any, Any] = (values - np.asarray(mean, dtype=np.float64).reshape(values.shape)) / pooled
    if not np.isfinite(deviations).all():
        raise ValueError("A mean or a spread is not a finite number, or all spreads are zero.")
    return deviations


def margin_score(
    margins: np.ndarray[Any, Any],
    mean: np.ndarray[Any, Any] | None = None,
    spread: np.ndarray[Any, Any] | None = None,
) -> float:
    """The largest deviation; see ``margin_deviations``. Higher is more suspicious."""
    return float(margin_deviations(margins, mean, spread).max())
