"""Made-up classes of images in the layout of the real sets, and tiny experiments on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def class_images(number: int, count: int, seed: int) -> torch.Tensor:
    """Uint8 ``(count, 3, 32, 32)``: noise around a colour of the class."""
    generator = torch.Generator().manual_seed(100 * seed + number)
    colour = torch.randint(60, 200, (1, 3, 1, 1), generator=torch.Generator().manual_seed(number))
    return (colour + torch.randint(-50, 51, (count, 3, 32, 32), generator=generator)).clamp(0, 255).to(torch.uint8)


def write_cifar10(root: Path, train: int = 8, test: int = 6) -> str:
    """Made-up images in the layout of CIFAR-10 as PNG files; returns the data root."""
    for part, count, seed in (("train", train, 1), ("test", test, 2)):
        for number, name in enumerate(NAMES):
            write_images(root / "cifar10" / part / name, class_images(number, count, seed))
    return str(root)


def write_images(folder: Path, images: torch.Tensor) -> None:
    """``0000.png`` and so on."""
    folder.mkdir(parents=True)
    for number, image in enumerate(images):
        Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).numpy())).save(folder / f"{number:04}.png")
