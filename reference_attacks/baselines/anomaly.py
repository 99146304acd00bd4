"""Neural Cleanse's verdict on a network: how far the norms of its reversed triggers lie from their median."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

CONSISTENCY = 1.4826  # makes the median absolute deviation of normal values their standard deviation
FLAGGED_ABOVE = 2.0


def anomaly_indices(norms: Sequence[float]) -> list[float | None]:
    """How many normalised median absolute deviations each norm lies from the median of all; at least 0.

    Source: Neural Cleanse §IV-A and ``mad_outlier_detection.py``. The median of an even number is the mean of the
    middle two; ports that take the lower one give other indices for ten classes. None for every norm where the
    deviation is 0 or there is no norm: there is nothing to measure by.
    """
    if not norms:
        return []
    middle = median(norms)
    deviation = CONSISTENCY * median(abs(norm - middle) for norm in norms)
    return [abs(norm - middle) / deviation if deviation > 0 else None for norm in norms]


def smallest_index(norms: Sequence[float]) -> float | None:
    """The anomaly index of the smallest norm, the network's own index in the paper; None where there is none."""
    indices = anomaly_indices(norms)
    return indices[min(range(len(norms)), key=lambda position: norms[position])] if norms else None


def flagged(norms: Sequence[float]) -> list[bool]:
    """Which norms are called backdoors: not above the median, and with an index above 2."""
    middle = median(norms) if norms else 0.0
    return [
        index is not None and norm <= middle and index > FLAGGED_ABOVE
        for norm, index in zip(norms, anomaly_indices(norms), strict=True)
    ]
