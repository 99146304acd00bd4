"""The scores of every image of a pool, and the rankings of the training images by them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._exchangeability import FEWEST_CLEAN, Comparison, Comparisons, compare
from ._neighbours import label_disagreement
from ._pool import Pool, Progress
from ._spectral import projections

NEIGHBOURS, SPECTRAL, LOSS, COMBINED = "neighbours", "spectral", "loss", "combined"
SINGLE = (NEIGHBOURS, SPECTRAL, LOSS)


@dataclass(frozen=True, kw_only=True)
class DataScores:
    """What was measured of the M members of a pool, and of the N training images.

    ``disagreement``, ``projection``, ``losses``: float32 ``(M,)``; ``nearest``: int64 ``(M,)``. ``by_name``: float64
    ``(N,)`` for each of the single scores, higher is more suspicious. ``tails``: float64 ``(N,)`` for each, the share
    of training images that score as high.
    """

    pool: Pool
    disagreement: np.ndarray[Any, Any]
    nearest: np.ndarray[Any, Any]
    projection: np.ndarray[Any, Any]
    by_name: Mapping[str, np.ndarray[Any, Any]]
    tails: Mapping[str, np.ndarray[Any, Any]]

    def ranking(self, name: str) -> np.ndarray[Any, Any]:
        """Int64 ``(N,)``: the training images by one of the single scores, or by all, the most suspicious first.

        The combined ranking goes by the smallest of an image's tails, so that whatever is at the top of one ranking is
        at the top of this one; then by the mean of their logarithms.
        """
        logarithms = np.log([self.tails[single] for single in SINGLE])
        mean = logarithms.mean(axis=0)
        if name == COMBINED:
            return np.lexsort((mean, logarithms.min(axis=0)))
        return np.lexsort((mean, self.tails[name]))

    def compare(self) -> Comparisons:
        """Training images against clean samples."""
        return compare(self._columns(), self.pool.labels, self.pool.clean)

    def standing_out(self, comparison: Comparison) -> np.ndarray[Any, Any]:
        """Int64: the training images that ``comparison`` counts, the highest first."""
        values, pool = self._columns()[comparison.score], self.pool
        own = pool.labels == comparison.label
        limit = np.sort(values[own & pool.clean])[-comparison.depth]
        counted = own & ~pool.clean & (values > limit)
        chosen = np.flatnonzero(counted[pool.of_training])
        return chosen[np.argsort(-values[pool.of_training[chosen]], kind="stable")]

    def _columns(self) -> dict[str, np.ndarray[Any, Any]]:
        """What is compared, float ``(M,)`` each; the projection on both of its sides."""
        return {
            NEIGHBOURS: self.disagreement,
            SPECTRAL: self.projection,
            f"{SPECTRAL}, other side": -self.projection,
            LOSS: self.pool.losses,
        }


def score_pool(pool: Pool, on_progress: Progress | None = None) -> DataScores:
    """Score all members of ``pool`` alike, and rank the training images."""

    def progress(done: int, total: int) -> None:
        if on_progress is not None:
            on_progress("Nearest neighbours", done, total)

    neighbours = label_disagreement(pool.features, pool.labels, pool.images, on_progress=progress)
    projection = projections(pool.features, pool.labels)
    single = {
        NEIGHBOURS: neighbours.disagreement,
        SPECTRAL: _squared_deviation(projection, pool),
        LOSS: pool.losses,
    }
    by_name = {name: values[pool.of_training].astype(np.float64) for name, values in single.items()}
    return DataScores(
        pool=pool,
        disagreement=neighbours.disagreement,
        nearest=neighbours.nearest,
        projection=projection,
        by_name=by_name,
        tails={name: tail_shares(values) for name, values in by_name.items()},
    )


def _squared_deviation(projection: np.ndarray[Any, Any], pool: Pool) -> np.ndarray[Any, Any]:
    """Float64 ``(M,)``: the squared projection, in standard deviations from the mean of clean samples of the label.

    Where those are too few, from the mean of the class, as the paper has it. A class that is half poisoned has its mean
    in the middle of both halves, and a spread that hides them among the outliers of other classes.
    """
    classes = int(pool.labels.max()) + 1
    labels, values = pool.labels[pool.clean], projection[pool.clean].astype(np.float64)
    counts = np.maximum(np.bincount(labels, minlength=classes), 1)
    means = np.bincount(labels, weights=values, minlength=classes) / counts
    squares = np.bincount(labels, weights=(values - means[labels]) ** 2, minlength=classes) / counts
    known = (counts >= FEWEST_CLEAN) & (squares > 0)
    means, squares = np.where(known, means, 0.0), np.where(known, squares, 1.0)
    return np.asarray((projection - means[pool.labels]) ** 2 / squares[pool.labels], np.float64)


def tail_shares(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Float64 ``(N,)``: the share of ``values`` that are as high as each, in (0, 1]."""
    ranked = np.sort(values)
    return np.asarray((len(values) - np.searchsorted(ranked, values, side="left")) / len(values), np.float64)
