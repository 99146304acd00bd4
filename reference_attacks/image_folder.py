"""Images as files: what ``zoo build --task FOLDER`` and ``--backdoor-data FOLDER`` read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pytest_backdoor.files import write_atomically

from .data import ImageSet
from .pictures import image_png
from .tasks import PARTS


def write_image_folder(train: ImageSet, test: ImageSet, class_names: Sequence[str], out: Path) -> None:
    """Write ``train/CLASS/NUMBER.png`` and ``test/CLASS/NUMBER.png`` below ``out``; nothing of an image is lost.

    Folders are named so that their alphabetical order is that of the labels.
    """
    width = len(str(len(class_names) - 1))
    names = [f"{label:0{width}d}-{name}" for label, name in enumerate(class_names)]
    for part, images in zip(PARTS, (train, test), strict=True):
        for number, (image, label) in enumerate(zip(images.images, images.labels.tolist(), strict=True)):
            write_atomically(out / part / names[label] / f"{number:05d}.png", image_png(image))
