"""Real image sets, read through torchvision and kept as uint8 tensors in memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

DATA_ROOT_VARIABLE = "BACKDOOR_DATA_ROOT"


class DataNotFoundError(RuntimeError):
    """A data set is not on this machine and could not be downloaded."""


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """Images with labels.

    ``images``: uint8 ``(N, C, H, W)``. ``labels``: int64 ``(N,)``.
    """

    images: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def of_class(self, label: int) -> ImageSet:
        """The images of one class, in their order."""
        keep = self.labels == label
        return ImageSet(images=self.images[keep], labels=self.labels[keep])

    def take(self, indices: torch.Tensor) -> ImageSet:
        """The images at ``indices`` (int64), in that order."""
        return ImageSet(images=self.images[indices], labels=self.labels[indices])


def data_root(given: str | os.PathLike[str] | None = None) -> Path:
    """The folder that holds the data sets: ``given``, else ``$BACKDOOR_DATA_ROOT``, else ``./data``."""
    return Path(given or os.environ.get(DATA_ROOT_VARIABLE) or "data")


def load_mnist(root: str | os.PathLike[str] | None = None, *, train: bool) -> ImageSet:
    """MNIST, 60,000 training or 10,000 test images of 28x28, in torchvision's layout below ``root``.

    What is absent is downloaded where the network allows; where all is there, the network is left alone. Raises
    DataNotFoundError where it is absent and cannot be fetched.
    """
    from torchvision.datasets import MNIST

    folder = data_root(root)
    dataset = _found("MNIST", folder, "MNIST/raw/*-ubyte", lambda: MNIST(str(folder), train=train, download=True))
    return ImageSet(images=dataset.data.unsqueeze(1), labels=dataset.targets)


def load_gtsrb(root: str | os.PathLike[str] | None = None, *, train: bool) -> ImageSet:
    """The German traffic signs, 43 classes, resized to 32x32 RGB, in torchvision's layout below ``root``.

    Absent images are downloaded where the network allows. Raises DataNotFoundError otherwise.
    """
    from torchvision.datasets import GTSRB

    folder, split = data_root(root), "train" if train else "test"
    dataset = _found("GTSRB", folder, "gtsrb/GTSRB/Training", lambda: GTSRB(str(folder), split, download=True))
    return _decoded(dataset, (32, 32))


def load_cifar10(root: str | os.PathLike[str] | None = None, *, train: bool) -> ImageSet:
    """CIFAR-10, 50,000 training or 10,000 test images of 32x32 RGB.

    Read from ``cifar10/train/CLASS/*.png`` and ``cifar10/test/CLASS/*.png`` below ``root`` if they are there, else in
    torchvision's layout, downloaded where the network allows. Raises DataNotFoundError otherwise.
    """
    from torchvision.datasets import CIFAR10

    folder = data_root(root)
    pictures = folder / "cifar10" / ("train" if train else "test")
    if pictures.is_dir():
        return load_folder(pictures)
    dataset = _found(
        "CIFAR-10", folder, "cifar10/train/CLASS/*.png", lambda: CIFAR10(str(folder), train, download=True)
    )
    return ImageSet(images=torch.from_numpy(dataset.data).permute(0, 3, 1, 2), labels=torch.tensor(dataset.targets))


def load_folder(folder: Path) -> ImageSet:
    """The images of ``folder/CLASS/*``, classes in alphabetical order, all of the size of the first one.

    Grey images have one channel if the first one is grey. Raises DataNotFoundError if there are none and ValueError
    if their sizes differ.
    """
    from torchvision.datasets import ImageFolder
    from torchvision.datasets.folder import pil_loader

    def read(path: str) -> Any:
        from PIL import Image

        with Image.open(path) as image:
            return image.copy() if image.mode in ("L", "1") else pil_loader(path)

    dataset = _found("An image folder", folder, "CLASS/*.png", lambda: ImageFolder(str(folder), loader=read))
    return _decoded(dataset, None)


def _found(name: str, folder: Path, layout: str, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except (RuntimeError, OSError) as error:
        # torchvision lists every mirror and its answer, one a line.
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(":. ")
        raise DataNotFoundError(
            f"{name} was not found in {folder} and could not be downloaded ({reason}). Point --data-root or "
            f"${DATA_ROOT_VARIABLE} at a folder that holds {layout}."
        ) from error


def _decoded(dataset: Iterable[tuple[Any, int]], size: tuple[int, int] | None) -> ImageSet:
    """All images of a torchvision dataset; resized to ``size`` (width, height), or all of the first one's."""
    arrays: list[np.ndarray[Any, Any]] = []
    labels: list[int] = []
    mode = None
    for image, label in dataset:
        mode = mode or ("L" if image.mode in ("L", "1") else "RGB")
        wanted = image.convert(mode)
        array = np.asarray(wanted if size in (None, wanted.size) else wanted.resize(size))
        if arrays and array.shape != arrays[0].shape:
            raise ValueError(
                f"An image of class {label} has shape {array.shape}, the first one {arrays[0].shape}; make all alike."
            )
        arrays.append(array)
        labels.append(label)
    images = torch.from_numpy(np.stack(arrays))
    images = images.unsqueeze(1) if images.ndim == 3 else images.permute(0, 3, 1, 2)
    return ImageSet(images=images, labels=torch.tensor(labels))
