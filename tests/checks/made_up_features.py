"""Made-up classifiers whose features are the pixels, and training sets of points with planted poisons."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pytest_backdoor.models import ImageSource

DIMENSIONS = 8


class PixelClassifier:
    """Features are the pixels of a (1, 1, 8) image; the logits are 20 times the pixel that belongs to each class."""

    input_shape = (1, 1, DIMENSIONS)
    thread_safe = True

    def __init__(self, classes: int = 3) -> None:
        self.classes = classes

    def features(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        flat = images.reshape(len(images), -1)
        logits = 20 * flat[:, : self.classes]
        return flat, logits - logits.mean(axis=1, keepdims=True)


def points(count: int, classes: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Float32 points ``(count, 8)`` in [0, 1] around a corner for each class, and their labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    centres = 0.2 + 0.6 * np.eye(classes, DIMENSIONS)
    values = centres[labels] + rng.normal(0, 0.05, (count, DIMENSIONS))
    return np.clip(values, 0, 1).astype(np.float32), labels


def source(values: np.ndarray, labels: np.ndarray | None, classes: int = 3) -> ImageSource:
    """Points as an image source; the name of each is its number."""
    images = values.reshape(len(values), 1, 1, DIMENSIONS).astype(np.float32)
    return ImageSource(
        path=Path("made-up.npz"),
        names=[str(number) for number in range(len(values))],
        labels=labels,
        classes=classes,
        read=lambda chosen: images[chosen],
    )
