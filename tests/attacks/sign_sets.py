"""Small made-up sets of sign photographs in the published formats."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

WIDTH, HEIGHT = 60, 40


def picture(path: Path, colour: tuple[int, int, int] = (90, 120, 60)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (WIDTH, HEIGHT), colour).save(path)
    return path


def voc_object(name: str, corners: tuple[object, ...]) -> str:
    tags = "".join(
        f"<{tag}>{value}</{tag}>" for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
    )
    return f"<object>\n<name>{name}</name>\n<bndbox>{tags}</bndbox>\n</object>\n"


def voc_file(folder: Path, stem: str, objects: str, layout: tuple[str, str] = ("images", "annotations")) -> Path:
    """Annotation ``stem`` with its picture; the first object starts on line 3."""
    picture(folder / layout[0] / f"{stem}.jpg")
    file = folder / layout[1] / f"{stem}.xml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"<annotation>\n<filename>{stem}.jpg</filename>\n{objects}</annotation>\n")
    return file


def real_root(name: str) -> Path:
    """The folder of the data sets; skips the test where set ``name`` is not in it."""
    root = os.environ.get("BACKDOOR_DATA_ROOT")
    if not root or not (Path(root) / name).is_dir():
        pytest.skip(f"the photographs of {name} are not below $BACKDOOR_DATA_ROOT")
    return Path(root)
