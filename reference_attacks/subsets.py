"""Parts of image sets: some classes, some images of each."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .data import ImageSet


def of_classes(images: ImageSet, classes: Sequence[int]) -> ImageSet:
    """The images of ``classes``, labelled by their place in it, in their order."""
    labels = torch.full_like(images.labels, -1)
    for number, label in enumerate(classes):
        labels[images.labels == label] = number
    kept = (labels >= 0).nonzero()[:, 0]
    return ImageSet(images=images.images[kept], labels=labels[kept])


def stratified(data: ImageSet, count: int, generator: torch.Generator) -> ImageSet:
    """``count`` images, or all if there are no more, as many of each class as ``count`` divides into, in random order.

    Raises ValueError if a class has too few.
    """
    if count >= len(data):
        return data
    classes = int(data.labels.max()) + 1
    each = count // classes
    order = torch.randperm(len(data), generator=generator)
    chosen = [order[data.labels[order] == label][:each] for label in range(classes)]
    if any(len(some) < each for some in chosen):
        raise ValueError(f"A class has fewer than {each} images; ask for a smaller training set.")
    return data.take(torch.cat(chosen))


def evenly_spread(total: int, count: int, without: Sequence[int] = ()) -> torch.Tensor:
    """Int64: every n-th of the numbers below ``total``, so that there are about ``count``, but for ``without``."""
    keep = torch.zeros(total, dtype=torch.bool)
    keep[:: max(1, total // count)] = True
    keep[list(without)] = False
    return keep.nonzero()[:, 0]
