"""Shares with their intervals, as plots need them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .parts import Values


def shares_with_reach(summaries: Sequence[Values]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Float ``(N,)`` and ``(2, N)``, in per cent: "success" of each, and how far its "interval" reaches down and up."""
    shares = np.array([100 * found["success"] for found in summaries])
    limits = 100 * np.array([found["interval"] for found in summaries]).T
    return shares, np.maximum(0, np.stack([shares - limits[0], limits[1] - shares]))
