"""Deep k-NN: do an image's nearest neighbours in feature space have its label?"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

MOST_REFERENCES = 60_000
CHUNK_DISTANCES = 4_000_000
MOST_WORKERS = 8
# The distance of the k-th neighbour is told by a part of the distances where that part still holds so many nearer ones.
NEAREST_TO_TELL_BY, LARGEST_STRIDE = 64, 8


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """``disagreement``: float32 ``(M,)`` in [0, 1], the weighted share of other labels among the nearest neighbours.

    ``nearest``: int64 ``(M,)``, the class that most of their weight has.
    """

    disagreement: np.ndarray[Any, Any]
    nearest: np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True)
class _References:
    """What neighbours are sought among, sorted by label.

    ``features``: float32 ``(R, D)``. ``squares``: their squared lengths, ``(R,)``. ``classes`` and ``starts``: int64,
    the labels there are and where each begins. ``images``: int64 ``(R,)`` sorted, at ``columns``: int64 ``(R,)``.
    """

    features: np.ndarray[Any, Any]
    squares: np.ndarray[Any, Any]
    classes: np.ndarray[Any, Any]
    starts: np.ndarray[Any, Any]
    images: np.ndarray[Any, Any]
    columns: np.ndarray[Any, Any]


def label_disagreement(
    features: np.ndarray[Any, Any],
    labels: np.ndarray[Any, Any],
    images: np.ndarray[Any, Any],
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> Neighbours:
    """Deep k-NN (Peri et al., "Deep k-NN Defense against Clean-label Data Poisoning Attacks", 2019), as a graded score.

    ``features``: float32 ``(M, D)``, ``labels`` and ``images``: int64 ``(M,)``, in random order. As there, k is the
    size of the label's class, so that poisons, which are fewer, cannot outvote the rest. Deviations: the paper removes
    an image if its label is not the commonest among its neighbours, here all are ranked; a neighbour's weight falls
    with its squared distance, to 0 at the k-th; k is no more than the number of images with other labels, so that a
    class of more than half does not always agree with itself; images equal to the one in question are no neighbours of
    it; of more than 60,000 images, 60,000 random ones are the neighbours of all; where k is large, the distance of the
    k-th is told from up to every eighth of the distances.

    All members are treated alike. Time grows with M · min(M, 60,000) · D, memory with M · D.
    """
    centred = features - features.mean(axis=0, dtype=np.float64).astype(np.float32)
    references = _make_references(centred, labels, images)
    disagreement = np.zeros(len(labels), np.float32)
    nearest = labels.copy()
    if len(references.classes) < 2:
        return Neighbours(disagreement=disagreement, nearest=nearest)
    order = np.argsort(labels, kind="stable")
    rows = max(16, CHUNK_DISTANCES // len(references.columns))
    chunks = [
        chunk
        for label in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
        for chunk in np.split(label, range(rows, len(label), rows))
    ]
    done = 0
    with ThreadPoolExecutor(_workers()) as pool:
        found = pool.map(lambda chunk: _of_chunk(centred, labels, images, chunk, references), chunks)
        for chunk, (shares, classes) in zip(chunks, found, strict=True):
            disagreement[chunk], nearest[chunk] = shares, classes
            done += len(chunk)
            if on_progress is not None:
                on_progress(done, len(labels))
    return Neighbours(disagreement=disagreement, nearest=nearest)


def _workers() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return max(1, min(MOST_WORKERS, len(affinity(0)) if affinity else os.cpu_count() or 1))


def _make_references(
    features: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], images: np.ndarray[Any, Any]
) -> _References:
    used = np.argsort(labels[:MOST_REFERENCES], kind="stable")  # the order of all is random
    classes, starts = np.unique(labels[used], return_index=True)
    kept = features[used]
    columns = np.argsort(images[used], kind="stable")
    return _References(
        features=kept,
        squares=np.einsum("ij,ij->i", kept, kept),
        classes=classes,
        starts=starts,
        images=images[used][columns],
        columns=columns,
    )


def _of_chunk(
    features: np.ndarray[Any, Any],
    labels: np.ndarray[Any, Any],
    images: np.ndarray[Any, Any],
    chunk: np.ndarray[Any, Any],
    references: _References,
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The two arrays of ``Neighbours`` for images ``chunk``, int64 ``(n,)``, of one label."""
    distances = _squared_distances(features[chunk], references)
    excluded = _exclude_equal(distances, images[chunk], references)
    squared_radius = _squared_radius(distances, int(labels[chunk[0]]), references, excluded)
    weights = distances
    weights /= -squared_radius[:, None]
    weights += 1
    np.maximum(weights, 0, out=weights)
    votes = np.add.reduceat(weights, references.starts, axis=1)
    total = votes.sum(axis=1)
    own = votes[:, references.classes == labels[chunk[0]]].sum(axis=1)
    shares = np.clip(1 - own / total, 0, 1)
    return shares, references.classes[votes.argmax(axis=1)]


def _squared_distances(queries: np.ndarray[Any, Any], references: _References) -> np.ndarray[Any, Any]:
    distances: np.ndarray[Any, Any] = queries @ references.features.T
    distances *= -2
    distances += references.squares
    distances += np.einsum("ij,ij->i", queries, queries)[:, None]
    np.maximum(distances, 0, out=distances)
    return distances


def _exclude_equal(distances: np.ndarray[Any, Any], images: np.ndarray[Any, Any], references: _References) -> int:
    """Put the references that are the same image, whatever their label, infinitely far away; the most of any row."""
    first = np.searchsorted(references.images, images, side="left")
    count = np.searchsorted(references.images, images, side="right") - first
    most = int(count.max())
    for number in range(most):  # one for each label that an image has
        rows = np.flatnonzero(count > number)
        distances[rows, references.columns[first[rows] + number]] = np.inf
    return most


def _squared_radius(
    distances: np.ndarray[Any, Any], label: int, references: _References, excluded: int
) -> np.ndarray[Any, Any]:
    """Float32 ``(n,)``: the squared distance within which neighbours count, that of the k-th."""
    count = distances.shape[1]
    sizes = np.diff(np.append(references.starts, count))
    size = int(sizes[references.classes == label].sum())
    k = max(1, min(size, count - size))
    stride = max(1, min(LARGEST_STRIDE, k // NEAREST_TO_TELL_BY))
    part = distances[:, ::stride]
    last = max(0, min(round(k / stride) - 1, part.shape[1] - 1 - excluded))
    radius = np.partition(part, last, axis=1)[:, last]
    # A little more, so that the k-th itself counts where all are equally far away.
    radius = np.where(np.isfinite(radius), radius, np.float32(1)) * np.float32(1.001)
    smallest = np.finfo(np.float32).tiny
    return np.asarray(np.maximum(radius, smallest), np.float32)
