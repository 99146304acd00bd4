"""What a model makes of every training image and clean sample, each distinct one once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np

from ...models import ImageSource

if TYPE_CHECKING:
    from ...models import Classifier

BATCH = 512
MOST_FEATURES = 2048
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class Looked:
    """A model's view of N images with labels.

    ``features``: float32 ``(N, D)``. ``labels`` and ``predicted``: int64 ``(N,)``. ``losses``: float32 ``(N,)``, the
    cross-entropy of the label in nats. ``digests``: uint64 ``(N,)``, equal for equal images. ``feature_count``: how
    many features the model has; D of them, or as many projections, are kept.
    """

    features: np.ndarray[Any, Any]
    labels: np.ndarray[Any, Any]
    predicted: np.ndarray[Any, Any]
    losses: np.ndarray[Any, Any]
    digests: np.ndarray[Any, Any]
    feature_count: int

    @property
    def accuracy(self) -> float:
        """The share of images that the model gives their label."""
        return float((self.predicted == self.labels).mean())


@dataclass(frozen=True, kw_only=True)
class Pool:
    """The M distinct pairs of image and label of training set and clean samples, in an order that tells nothing.

    ``features``: float32 ``(M, D)``. ``labels``: int64 ``(M,)``. ``losses``: float32 ``(M,)``. ``images``: int64
    ``(M,)``, equal where the images are. ``clean``: bool ``(M,)``, whether the pair is among the clean samples, also
    where it is in the training set too. ``of_training``: int64 ``(N,)``, the pair of each training image.
    """

    features: np.ndarray[Any, Any]
    labels: np.ndarray[Any, Any]
    losses: np.ndarray[Any, Any]
    images: np.ndarray[Any, Any]
    clean: np.ndarray[Any, Any]
    of_training: np.ndarray[Any, Any]

    def __len__(self) -> int:
        return len(self.labels)


def look_at(
    classifier: Classifier,
    source: ImageSource,
    labels: np.ndarray[Any, Any],
    chosen: np.ndarray[Any, Any],
    on_progress: Progress | None = None,
) -> Looked:
    """The model's view of the images ``chosen``, int64 ``(N,)``, of ``source``, read and run batch by batch.

    ``labels``: int64, of all images of the source. More than 2048 features are replaced by 2048 random projections,
    which keep distances up to a few per cent (Johnson and Lindenstrauss), so that memory and time stay bounded. Raises
    as ``ImageSource.read`` and ``Classifier.features`` do.
    """
    features: np.ndarray[Any, Any] = np.empty((0, 0), np.float32)
    projection: np.ndarray[Any, Any] | None = None
    predicted = np.empty(len(chosen), np.int64)
    losses = np.empty(len(chosen), np.float32)
    digests = np.empty(len(chosen), np.uint64)
    count = 0
    for start in range(0, len(chosen), BATCH):
        part = slice(start, start + BATCH)
        images = source.read(chosen[part])
        found, logits = classifier.features(images)
        if not start:
            count = found.shape[1]
            projection = _projection(count)
            features = np.empty((len(chosen), min(count, MOST_FEATURES)), np.float32)
        features[part] = found if projection is None else found @ projection
        predicted[part] = logits.argmax(axis=1)
        losses[part] = cross_entropy(logits, labels[chosen[part]])
        digests[part] = [int.from_bytes(blake2b(image.tobytes(), digest_size=8).digest()) for image in images]
        if on_progress is not None:
            on_progress(f"Features of {source.path.name}", min(start + BATCH, len(chosen)), len(chosen))
    return Looked(
        features=features,
        labels=labels[chosen],
        predicted=predicted,
        losses=losses,
        digests=digests,
        feature_count=count,
    )


def _projection(count: int) -> np.ndarray[Any, Any] | None:
    if count <= MOST_FEATURES:
        return None
    drawn = np.random.default_rng(0).standard_normal((count, MOST_FEATURES), dtype=np.float32)
    return drawn / np.float32(np.sqrt(MOST_FEATURES))


def cross_entropy(logits: np.ndarray[Any, Any], labels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Float32 ``(N,)``: -log of the probability of each label, of logits ``(N, K)`` and int64 labels ``(N,)``."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    own = np.take_along_axis(shifted, labels[:, None], axis=1)[:, 0]
    return np.asarray(np.log(np.exp(shifted).sum(axis=1)) - own, np.float32)


def make_pool(training: Looked, clean: Looked | None, seed: int) -> Pool:
    """The distinct pairs of image and label, in an order drawn from ``seed``.

    A pair that is in both is a clean one: the user vouches for it. All that is computed from a pool treats its members
    alike, so that the scores of clean samples and of training images can be compared.
    """
    parts = [training] if clean is None else [clean, training]
    given = 0 if clean is None else len(clean.labels)
    labels = np.concatenate([part.labels for part in parts])
    images = np.unique(np.concatenate([part.digests for part in parts]), return_inverse=True)[1]
    pairs = images.astype(np.int64) * (int(labels.max()) + 1) + labels
    # The clean samples come first, so that a pair that is in both is found among them.
    first, pair_of = np.unique(pairs, return_index=True, return_inverse=True)[1:]
    order = np.random.default_rng(seed).permutation(len(first))
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    kept = first[order]
    return Pool(
        features=_rows([part.features for part in parts], kept),
        labels=labels[kept],
        losses=np.concatenate([part.losses for part in parts])[kept],
        images=images[kept].astype(np.int64),
        clean=kept < given,
        of_training=place[pair_of[given:]],
    )


def _rows(parts: list[np.ndarray[Any, Any]], wanted: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Rows of the concatenation, which is not made: it would be one more copy of all features."""
    rows = np.empty((len(wanted), parts[0].shape[1]), np.float32)
    start = 0
    for part in parts:
        own = (wanted >= start) & (wanted < start + len(part))
        rows[own] = part[wanted[own] - start]
        start += len(part)
    return rows
