"""Real image sets, read through torchvision and kept as uint8 tensors in memory."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

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
    try:
        dataset = MNIST(str(folder), train=train, download=True)
    except (RuntimeError, OSError) as error:
        # torchvision lists every mirror and its answer, one a line.
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(":. ")
        raise DataNotFoundError(
            f"MNIST was not found in {folder} and could not be downloaded ({reason}). Point --data-root or "
            f"${DATA_ROOT_VARIABLE} at a folder that holds MNIST/raw/*-ubyte."
        ) from error
    return ImageSet(images=dataset.data.unsqueeze(1), labels=dataset.targets)
