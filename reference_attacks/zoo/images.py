"""A zoo's images, decoded once and then read by every worker from one file."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file, save

from pytest_backdoor.files import write_atomically

from ..data import ImageSet
from ..tasks import load_task
from .work import TaskImages

FILE = "images.safetensors"


def prepare_images(task: str, root: str | None, folder: Path) -> TaskImages:
    """The task's images, decoded into ``folder`` if they are not there yet.

    Raises DataNotFoundError, and ValueError if those in ``folder`` are another task's.
    """
    path = folder / FILE
    if not path.exists():
        train, test = load_task(task, root)
        arrays = {
            f"{part}/{name}": getattr(images, name).contiguous()
            for part, images in (("train", train), ("test", test))
            for name in ("images", "labels")
        }
        write_atomically(path, save(arrays, metadata={"task": task}))
    _check_task(path, task)
    return read_images(folder)


def _check_task(path: Path, task: str) -> None:
    with safe_open(path, "pt") as file:
        found = (file.metadata() or {}).get("task", task)
    if found != task:
        raise ValueError(f"{path} holds the images of {found}, not of {task}; choose an empty folder.")


@cache
def read_images(folder: Path) -> TaskImages:
    """The images that ``prepare_images`` left in ``folder``; read once in each process."""
    arrays = load_file(folder / FILE)
    train, test = (
        ImageSet(images=arrays[f"{part}/images"], labels=arrays[f"{part}/labels"]) for part in ("train", "test")
    )
    return TaskImages(train=train, test=test)
