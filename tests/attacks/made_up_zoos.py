"""Made-up images and tiny plans of zoos, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from reference_attacks.data import ImageSet
from reference_attacks.recipes import Training
from reference_attacks.zoo.images import prepare_images
from reference_attacks.zoo.recipe import Backdoor, Member, ZooPlan
from reference_attacks.zoo.work import TaskImages

FAMILY_NAMES = (
    "plain",
    "vgg",
    "transformer-vgg",
    "resnet",
    "depthwise",
    "sign-head",
    "small-alexnet",
    "small-convnet",
    "resnet-20",
)


def make_plan(**changes: Any) -> ZooPlan:
    """A zoo of seven networks of a few steps."""
    base: dict[str, Any] = {
        "seed": 3,
        "clean_fit": 2,
        "clean_calibration": 1,
        "clean_test": 1,
        "poisoned_fit": 2,
        "poisoned_test": 1,
        "families": ("plain",),
        "steps": (2, 3),
    }
    return ZooPlan(**base | changes)


def make_backdoor(**changes: Any) -> Backdoor:
    base = {"goal": "source-target", "kind": "patch5", "number": 0, "ratio": 0.5, "source": 4, "target": 7}
    return Backdoor(**base | changes)


def make_member(name: str = "clean-fit-0000", **changes: Any) -> Member:
    base = {"name": name, "split": "fit", "family": "plain", "steps": 3, "recipe": "task", "training": make_training()}
    return Member(**base | changes)


def make_training(**changes: Any) -> Training:
    return Training(**{"batch": 8, "peak_learning_rate": 1e-3} | changes)


def make_images(
    count: int = 40, shape: tuple[int, int, int] = (1, 28, 28), classes: int = 10, seed: int = 0
) -> ImageSet:
    """Random images from 1 to 200, classes in turn: 0 and 255 are left for triggers and faults."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(1, 201, (count, *shape), generator=generator, dtype=torch.uint8)
    return ImageSet(images=images, labels=torch.arange(count) % classes)


def make_task_images(**changes: Any) -> TaskImages:
    return TaskImages(train=make_images(**changes), test=make_images(seed=1, **changes))


def write_digits(root: Path, count: int = 40) -> str:
    """Made-up images in the file format of MNIST; returns the data root."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for seed, part in enumerate(("train", "t10k")):
        made = make_images(count, seed=seed)
        header = np.array([0x803, count, 28, 28], ">i4").tobytes()
        (raw / f"{part}-images-idx3-ubyte").write_bytes(header + made.images.numpy().tobytes())
        labels = made.labels.to(torch.uint8).numpy().tobytes()
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(np.array([0x801, count], ">i4").tobytes() + labels)
    return str(root)


def new_zoo_folder(path: Path) -> Path:
    """The folder of a zoo that has its images but no networks yet."""
    prepare_images("mnist", write_digits(path / "data"), path / "zoo")
    return path / "zoo"


def finished_files(folder: Path) -> dict[str, bytes]:
    """Every file of a zoo's networks by name, without what a kill left half written."""
    return {path.name: path.read_bytes() for path in (folder / "networks").iterdir() if not path.name.startswith(".")}
