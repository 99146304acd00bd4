"""What triggers do to a set of images, asked of the model's forward pass alone and counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, Any]

AGNOSTIC = -1
ELEMENTS_AT_ONCE = 2**22


@dataclass(kw_only=True)
class Queries:
    """A model, the images that it is asked about and how many forward passes are left.

    ``images``: float32 ``(N, C, H, W)`` in [0, 1], classified as ``labels``, int64 ``(N,)``. ``left`` counts images,
    not batches. ``scale`` is the deviation of the logits, by which margins are measured.
    """

    logits: Callable[[Array], Array]
    images: Array
    labels: Array
    left: int
    scale: float = 1.0

    def measure_scale(self) -> None:
        """Set ``scale`` by the logits of the images themselves."""
        self.left -= len(self.images)
        self.scale = float(self.logits(self.images).std()) or 1.0

    def answers(self, masks: Array, patterns: Array, chosen: Array) -> Array:
        """Logits ``(B, n, K)`` of the ``chosen`` ``n`` images under each of ``B`` triggers.

        ``masks``: bool ``(B, H, W)``; ``patterns``: float32 ``(B, C, H, W)``, opaque where the mask is true.
        """
        self.left -= len(masks) * len(chosen)
        images = self.images[chosen]
        step = max(1, ELEMENTS_AT_ONCE // images.size)
        parts = []
        for start in range(0, len(masks), step):
            mask = masks[start : start + step, None, None]
            triggered = np.where(mask, patterns[start : start + step, None], images[None])
            parts.append(self.logits(triggered.reshape(-1, *images.shape[1:])))
        return np.concatenate(parts).reshape(len(masks), len(chosen), -1)


def sources_of(labels: Array, target: int) -> Array:
    """The positions of the images that a trigger for ``target`` has to turn: those of all other classes."""
    return np.flatnonzero(labels != target)


def margins(logits: Array, labels: Array, target: int) -> Array:
    """By how much each image is turned, ``(..., n)`` of logits ``(..., n, K)``; positive if it is.

    The target's logit less the largest other one; for AGNOSTIC the largest other one less that of the label.
    """
    own = labels if target == AGNOSTIC else np.full(len(labels), target)
    position = np.broadcast_to(own, logits.shape[:-1])[..., None]
    value = np.take_along_axis(logits, position, -1)[..., 0]
    others = logits.copy()
    np.put_along_axis(others, position, -np.inf, -1)
    margin: Array = value - others.max(-1)
    return -margin if target == AGNOSTIC else margin


def needed_success(labels: Array, target: int, success: float) -> float:
    """The share of images that a trigger has to turn.

    A backdoor with one target cannot move that class's own images, so a target-agnostic trigger can never turn all.
    """
    if target != AGNOSTIC:
        return success
    sources = len(np.unique(labels))
    return min(success, max(0.5, 1 - 1 / sources - 0.05)) if sources > 1 else success


def round_robin(labels: Array, generator: np.random.Generator) -> Array:
    """An order of the images in random turn, one of each class before the second of any."""
    order = generator.permutation(len(labels))
    rank = np.zeros(len(labels), np.int64)
    for label in np.unique(labels):
        own = order[labels[order] == label]
        rank[own] = np.arange(len(own))
    turn: Array = order[np.argsort(rank[order], kind="stable")]
    return turn
