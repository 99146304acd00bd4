"""Where a command's images and features come from: a task with a small network of our own, or InceptionV3."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..data import ImageSet
from ..tasks import CIFAR10_CLASSES
from ..zoo.images import prepare_images
from ..zoo.machine import choose_machine
from .extractors import ExtractorPlan, build_extractor
from .inception import load_inception, load_large
from .transfer import FeatureExtractor

SIGNS = 43


@dataclass(frozen=True, kw_only=True)
class Source:
    """Images of a task, and a network that has not been trained on ``classes``, indices of the task's classes."""

    extractor: FeatureExtractor
    train: ImageSet
    test: ImageSet
    classes: tuple[int, ...]


def open_source(arguments: argparse.Namespace, names: Sequence[str], say: Callable[[str], None]) -> Source:
    """The source that the options of ``add_extractor_options`` name, for classes of these ``names``.

    Raises DataNotFoundError where images are absent, and ValueError or OSError with a sentence for no such class, and
    where InceptionV3's weights are absent.
    """
    classes = tuple(class_number(arguments.task, name) for name in names)
    if len(set(classes)) != len(classes):
        raise ValueError("The classes have to differ.")
    if arguments.inception is not None:
        extractor = load_inception(arguments.inception)
        train, test = (load_large(Path(arguments.task) / part) for part in ("train", "test"))
        return Source(extractor=extractor, train=train, test=test, classes=classes)
    plan = ExtractorPlan(
        task=arguments.task,
        held_out=tuple(sorted(classes)),
        steps=arguments.extractor_steps,
        seed=arguments.seed,
        precision=choose_machine(None, None, None, None).precision,
    )
    own = build_extractor(plan, arguments.extractors, arguments.data_root, say)
    images = prepare_images(arguments.task, arguments.data_root, images_folder(arguments.extractors, arguments.task))
    return Source(extractor=own, train=images.train, test=images.test, classes=classes)


def images_folder(extractors: Path, task: str) -> Path:
    """Where the decoded images of a task are kept."""
    return extractors / "images" / Path(task).name


def class_number(task: str, name: str) -> int:
    """The number of a task's class, by its name or its number. Raises ValueError if there is none."""
    names = class_names(task)
    if name in names:
        return names.index(name)
    raise ValueError(f"{task} has no class {name!r}; choose among {', '.join(names)}.")


def class_names(task: str) -> list[str]:
    """The names of a task's classes in the order of their numbers; those of traffic signs are their numbers."""
    if task == "cifar10":
        return list(CIFAR10_CLASSES)
    if task == "gtsrb":
        return [str(number) for number in range(SIGNS)]
    folder = Path(task) / "train"
    if not folder.is_dir():
        raise ValueError(f"{task} is neither cifar10 nor gtsrb nor a folder with train/ and test/ in it.")
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
