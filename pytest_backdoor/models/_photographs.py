"""Photographs for the audit of object detectors: a folder of pictures of any size, or an ``.npz`` file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import SettingsError
from ._image_sources import IMAGE_SUFFIXES, images_of_npz, read_picture

if TYPE_CHECKING:
    import numpy as np

# Detectors make larger pictures smaller themselves.
LONGEST_SIDE = 1024


def load_photographs(
    source: str, *, root: Path, channels: int, size: tuple[int, int] | None, seed: int
) -> Iterator[np.ndarray[Any, Any]]:
    """Float32 ``(C, H, W)`` images in [0, 1], in an order that depends on ``seed`` alone.

    ``source`` is relative to ``root``: a folder with pictures, also in its sub-folders, or an ``.npz`` with ``x``, as
    for classifiers. ``size``: (height, width) to bring them to; None leaves them as they are, except that none has a
    side of more than 1024 pixels. They are read one after the other, as they are asked for. Raises SettingsError if
    there are none or one cannot be read.
    """
    import numpy as np

    path = root / source
    if path.is_dir():
        files = sorted(
            file
            for file in path.rglob("*")
            if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".") and file.is_file()
        )
        if not files:
            raise SettingsError(f"{path} holds no pictures ({', '.join(sorted(IMAGE_SUFFIXES))}).")
        for number in np.random.default_rng(seed).permutation(len(files)):
            yield read_picture(files[number], channels, lambda given: _target(given, size))
    elif path.suffix == ".npz" and path.is_file():
        yield from _from_npz(path, channels, size, seed)
    else:
        raise SettingsError(f"The photographs {path} are neither a folder of pictures nor an .npz file; check data.")


def _target(given: tuple[int, int], size: tuple[int, int] | None) -> tuple[int, int]:
    """The (height, width) to bring a picture of the ``given`` one to."""
    if size is not None:
        return size
    scale = min(1.0, LONGEST_SIDE / max(given))
    return max(1, round(given[0] * scale)), max(1, round(given[1] * scale))


def _from_npz(path: Path, channels: int, size: tuple[int, int] | None, seed: int) -> Iterator[np.ndarray[Any, Any]]:
    import numpy as np

    images, _ = images_of_npz(path)
    if images.ndim == 4 and images.shape[3] == channels and images.shape[1] != channels:
        images = images.transpose(0, 3, 1, 2)
    if images.ndim != 4 or images.shape[1] != channels or (size is not None and images.shape[2:] != size):
        wanted = "any size" if size is None else f"{size[0]}x{size[1]} pixels"
        raise SettingsError(
            f"{path} holds images of shape {list(images.shape[1:])}, but the detector takes photographs of {wanted} "
            f"with {channels} channel(s)."
        )
    scale = np.float32(255 if images.dtype == np.uint8 else 1)
    for number in np.random.default_rng(seed).permutation(len(images)):
        image = np.ascontiguousarray(images[number], np.float32) / scale
        if not (image.min() >= 0 and image.max() <= 1):
            raise SettingsError(f"{path} holds values outside of [0, 1]; give uint8 images, or floats in [0, 1].")
        yield image
