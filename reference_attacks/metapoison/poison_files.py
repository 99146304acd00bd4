"""Poisons as an ``.npz`` file that says which images of which training set they take the place of."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pytest_backdoor.files import write_atomically

from ..tasks import CIFAR10_CLASSES, load_task
from .images import Images, choose_images
from .problem import Problem
from .trials import Trial, make_problem

TASK = "cifar10"


@dataclass(frozen=True, kw_only=True)
class DataChoice:
    """Which images of CIFAR-10 the training set has: see ``images.choose_images``."""

    classes: tuple[int, ...]
    train_images: int
    seed: int

    @property
    def class_names(self) -> list[str]:
        """In words, by label."""
        return [CIFAR10_CLASSES[number] for number in self.classes]


@dataclass(frozen=True, kw_only=True)
class PoisonFile:
    """The crafted poisons of a trial.

    ``images``: uint8 ``(P, C, H, W)``, for the places ``problem.poisons`` of the training set. ``target_numbers``:
    int64 ``(T,)``, which of the test images the targets are.
    """

    trial: Trial
    data: DataChoice
    problem: Problem
    images: torch.Tensor
    target_numbers: torch.Tensor


def npz_of(file: PoisonFile) -> bytes:
    """The content of the file: what ``read_poisons`` reads, and bases and targets as images for everyone else.

    ``images`` and ``bases``: uint8 ``(P, C, H, W)``; ``poisons``: int64 ``(P,)``, their places; ``label``: of all of
    them. ``targets``: uint8 ``(T, C, H, W)``; ``target_numbers``, ``target_labels`` (true ones), ``wanted_labels``:
    int64 ``(T,)``. ``about``: JSON, the trial and the choice of the training set.
    """
    problem = file.problem
    buffer = io.BytesIO()
    arrays: dict[str, torch.Tensor] = {
        "images": file.images,
        "bases": problem.bases,
        "poisons": problem.poisons,
        "label": torch.tensor(file.trial.poison_class),
        "targets": problem.targets,
        "target_numbers": file.target_numbers,
        "target_labels": problem.true_labels,
        "wanted_labels": problem.labels,
    }
    about = json.dumps({"trial": asdict(file.trial), "data": asdict(file.data)})
    np.savez_compressed(buffer, about=np.array(about), **{name: value.cpu().numpy() for name, value in arrays.items()})
    return buffer.getvalue()


def write_poisons(file: PoisonFile, path: Path) -> None:
    """Write ``path``, which ends in ``.npz``."""
    write_atomically(path, npz_of(file))


def read_poisons(path: Path, data_root: str | None) -> tuple[PoisonFile, Images]:
    """Poisons with the training and test images that they are about.

    Raises DataNotFoundError, and ValueError for a file of another kind and for images that are not those of the file.
    """
    arrays, about = _read(path)
    trial = Trial(**about["trial"])
    data = DataChoice(**{**about["data"], "classes": tuple(about["data"]["classes"])})
    images = choose_images(*load_task(TASK, data_root), data.classes, data.train_images, data.seed)
    numbers = arrays["target_numbers"]
    if int(numbers.max()) < len(images.test):
        problem = make_problem(trial, images.training, images.test, numbers, len(data.classes))
        same = torch.equal(problem.bases, arrays["bases"]) and torch.equal(problem.targets, arrays["targets"])
        if same and torch.equal(problem.poisons, arrays["poisons"]):
            poisons = PoisonFile(
                trial=trial, data=data, problem=problem, images=arrays["images"], target_numbers=numbers
            )
            return poisons, images
    raise ValueError(
        f"{path} was made of other images than the data root holds; point --data-root at the set that it was made of."
    )


def _read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: torch.from_numpy(file[name]) for name in file.files if name != "about"}
            return arrays, json.loads(str(file["about"]))
    except (ValueError, KeyError, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ValueError(f"{path} holds no poisons of metapoison craft; name the poisons.npz that it wrote.") from error
