"""Clean samples that a user gives: a folder with one sub-folder for each class, or an ``.npz`` file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._image_sources import open_images

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Clean images. ``images``: float32 ``(N, C, H, W)`` in [0, 1]. ``labels``: int64 ``(N,)`` or None."""

    images: np.ndarray[Any, Any]
    labels: np.ndarray[Any, Any] | None

    def __len__(self) -> int:
        return len(self.images)


def load_samples(
    source: str,
    *,
    root: Path,
    input_shape: tuple[int, int, int],
    classes: int,
    class_names: tuple[str, ...] | None,
    limit: int,
    seed: int,
) -> Samples:
    """At most ``limit`` samples drawn from ``source``, the same ones for the same ``seed``.

    See ``open_images``, whose errors it raises.
    """
    import numpy as np

    opened = open_images(
        source, root=root, input_shape=input_shape, classes=classes, class_names=class_names, setting="data"
    )
    chosen = np.sort(np.random.default_rng(seed).permutation(len(opened))[:limit])
    labels = None if opened.labels is None else opened.labels[chosen]
    if labels is not None:
        opened.require_labels_of_model(labels)
    return Samples(images=opened.read(chosen), labels=labels)
