"""Training and test images of some classes, of which a poisoner's training set is a part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..data import ImageSet
from ..subsets import of_classes, stratified
from ..zoo.seeds import derived_generator


@dataclass(frozen=True, kw_only=True)
class Images:
    """Training images, and all test images, of the classes in question."""

    training: ImageSet
    test: ImageSet


def choose_images(train: ImageSet, test: ImageSet, classes: Sequence[int], count: int, seed: int) -> Images:
    """The images of ``classes``, labelled by their place there: ``count`` of the training set, as many of each class.

    Raises ValueError if a class has too few.
    """
    chosen, tested = (of_classes(part, classes) for part in (train, test))
    return Images(training=stratified(chosen, count, derived_generator(seed, "training images")), test=tested)
