"""The tasks that zoos are built for: where their images come from, and how networks are trained on them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from .data import ImageSet, load_cifar10, load_folder, load_gtsrb, load_mnist
from .overlays import Place
from .recipes import Training


@dataclass(frozen=True, kw_only=True)
class Task:
    """One image classification task and how its networks are trained.

    ``family``: the architecture of its networks unless others are asked for. ``steps``: how many batches a network may
    be trained for; each network draws one. ``training``: the recipe unless others are asked for. ``place``: where
    patches lie.
    """

    name: str
    family: str
    steps: tuple[int, ...]
    training: Training
    place: Place = "corners"


TASKS = {
    "mnist": Task(
        name="mnist",
        family="plain",
        steps=(450, 700, 1000, 2000),
        training=Training(batch=128, peak_learning_rate=6e-3),
    ),
    "cifar10": Task(
        name="cifar10",
        family="vgg",
        steps=(1250, 1365),
        training=Training(
            batch=128,
            peak_learning_rate=6e-3,
            weight_decay=0.1,
            kernel_learning_rate=0.04,
            label_smoothing=0.1,
            shift=2,
            flip=True,
        ),
    ),
    "gtsrb": Task(
        name="gtsrb",
        family="transformer-vgg",
        steps=(800, 1000),
        training=Training(batch=64, peak_learning_rate=6e-3, weight_decay=0.3, shift=2),
        place="centre",
    ),
}
# In alphabetical order, which is also that of their numbers.
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
PARTS = ("train", "test")
FOLDER_TASK = Task(
    name="folder",
    family="vgg",
    steps=(1500, 2000),
    training=Training(batch=64, peak_learning_rate=6e-3, shift=2),
)


def find_task(name: str) -> Task:
    """The task ``name``, or one for the image folder of that path. Raises ValueError if it is neither."""
    if name in TASKS:
        return TASKS[name]
    if (Path(name) / "train").is_dir() and (Path(name) / "test").is_dir():
        return FOLDER_TASK
    raise ValueError(
        f"{name} is neither one of the tasks {', '.join(TASKS)} nor a folder with train/ and test/ in it, each with "
        "one folder of images for each class."
    )


def load_task(name: str, root: str | os.PathLike[str] | None) -> tuple[ImageSet, ImageSet]:
    """Training and test images of a task or an image folder.

    Raises DataNotFoundError where they are absent, and ValueError for a folder whose parts do not fit together.
    """
    if name not in TASKS:
        return _load_folders(Path(name))
    load = {"mnist": load_mnist, "cifar10": load_cifar10, "gtsrb": load_gtsrb}[name]
    return load(root, train=True), load(root, train=False)


def _load_folders(folder: Path) -> tuple[ImageSet, ImageSet]:
    """Training and test images of an image folder. Raises ValueError where the two do not fit together."""
    trained, tested = ({entry.name for entry in (folder / part).iterdir() if entry.is_dir()} for part in PARTS)
    if trained != tested:
        # Classes are numbered in alphabetical order, so one that is missing would rename all that follow.
        raise ValueError(
            f"{folder} has other classes in train/ than in test/ ({', '.join(sorted(trained ^ tested))}); "
            "give each class a folder in both."
        )
    train, test = (load_folder(folder / part) for part in PARTS)
    if train.images.shape[1:] != test.images.shape[1:]:
        raise ValueError(
            f"{folder} has training images of shape {tuple(train.images.shape[1:])} and test images of shape "
            f"{tuple(test.images.shape[1:])}; make all alike."
        )
    return train, test
