"""Clean samples that a user gives: a folder with one sub-folder for each class, or an ``.npz`` file."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import SettingsError
from ._classifier import one_line

if TYPE_CHECKING:
    import numpy as np

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm", ".webp", ".tif", ".tiff"}


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Clean images. ``images``: float32 ``(N, C, H, W)`` in [0, 1]. ``labels``: int64 ``(N,)`` or None."""

    images: np.ndarray[Any, Any]
    labels: np.ndarray[Any, Any] | None

    def __len__(self) -> int:
        return len(self.images)


def load_samples(
    source: str,
    *,
    root: Path,
    input_shape: tuple[int, int, int],
    classes: int,
    class_names: tuple[str, ...] | None,
    limit: int,
    seed: int,
) -> Samples:
    """At most ``limit`` samples drawn from ``source``, the same ones for the same ``seed``.

    ``source`` is relative to ``root``. Folders of an image tree are the classes in the order of ``class_names``, else
    in alphabetical order. Raises SettingsError if the samples cannot be read or do not fit the model.
    """
    path = root / source
    if path.is_dir():
        samples = _from_folder(path, input_shape, class_names, limit, seed)
    elif path.suffix == ".npz" and path.is_file():
        samples = _from_npz(path, input_shape, limit, seed)
    else:
        raise SettingsError(f"The clean samples {path} are neither a folder of images nor an .npz file; check data.")
    labels = samples.labels
    if labels is not None and len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        raise SettingsError(
            f"{path} has labels from {labels.min()} to {labels.max()}, but the model has {classes} classes; "
            "give the samples that belong to this model."
        )
    return samples


def _from_npz(path: Path, input_shape: tuple[int, int, int], limit: int, seed: int) -> Samples:
    import numpy as np

    images, labels = images_of_npz(path)
    if labels is not None:
        labels = _class_numbers(labels, len(images), path)
    chosen = np.sort(np.random.default_rng(seed).permutation(len(images))[:limit])
    images = _channels_first(images[chosen], input_shape, path)
    return Samples(images=images, labels=None if labels is None else labels[chosen])


def images_of_npz(path: Path) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any] | None]:
    """The arrays ``x``, of any shape but numbers, and ``y``, if there is one, as they are in the file.

    Raises SettingsError if it cannot be read.
    """
    import numpy as np

    try:
        with zipfile.ZipFile(path):  # np.load would take other files too
            pass
        with np.load(path, allow_pickle=False) as archive:
            if "x" not in archive:
                raise SettingsError(f"{path} holds no array x; save np.savez(path, x=images, y=labels).")
            images, labels = archive["x"], archive.get("y")
    except (OSError, ValueError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise SettingsError(
            f"The clean samples {path} cannot be read ({one_line(error)}) Save them with np.savez(path, x=images)."
        ) from error
    if images.dtype.kind not in "buif" or not images.ndim:
        raise SettingsError(f"{path} holds an x of type {images.dtype} that is no images; give uint8 images in it.")
    return images, labels


def _class_numbers(labels: np.ndarray[Any, Any], images: int, path: Path) -> np.ndarray[Any, Any]:
    import numpy as np

    if labels.shape != (images,):
        raise SettingsError(
            f"{path} has {images} images but labels of shape {list(labels.shape)}; give one class number for each."
        )
    if labels.dtype.kind not in "uif" or not (labels == np.rint(labels)).all():
        raise SettingsError(f"{path} has labels that are not whole numbers; give the numbers of the classes in y.")
    return labels.astype(np.int64)


def _channels_first(images: np.ndarray[Any, Any], shape: tuple[int, int, int], path: Path) -> np.ndarray[Any, Any]:
    import numpy as np

    channels, height, width = shape
    if images.ndim == 3:
        images = images[..., None]
    if images.shape[1:] == (height, width, channels):
        images = images.transpose(0, 3, 1, 2)
    elif images.shape[1:] != shape:
        raise SettingsError(
            f"{path} holds images of shape {list(images.shape[1:])}, but the model takes {height}x{width} pixels with "
            f"{channels} channel(s); resize them."
        )
    if images.dtype == np.uint8:
        return np.ascontiguousarray(images, np.float32) / np.float32(255)
    values = np.ascontiguousarray(images, np.float32)
    if len(values) and not (values.min() >= 0 and values.max() <= 1):
        raise SettingsError(
            f"{path} holds {images.dtype} images from {values.min():.3g} to {values.max():.3g}; give uint8 images, or "
            "floats in [0, 1] before any normalisation (the input_range, mean and std settings do the rest)."
        )
    return values


def _from_folder(
    path: Path, input_shape: tuple[int, int, int], class_names: tuple[str, ...] | None, limit: int, seed: int
) -> Samples:
    import numpy as np

    folders = sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not folders:
        raise SettingsError(f"{path} has no sub-folder for each class; arrange the clean samples as CLASS/IMAGE.png.")
    names = _class_order(path, [folder.name for folder in folders], class_names)
    files = [
        (file, names[folder.name])
        for folder in folders
        for file in sorted(folder.iterdir())
        if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")
    ]
    if not files:
        raise SettingsError(f"{path} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))}).")
    chosen = [files[i] for i in sorted(np.random.default_rng(seed).permutation(len(files))[:limit])]
    images = np.stack([_read_image(file, input_shape) for file, _ in chosen])
    return Samples(images=images, labels=np.array([label for _, label in chosen], np.int64))


def _class_order(path: Path, folders: list[str], class_names: tuple[str, ...] | None) -> dict[str, int]:
    if class_names is None:
        return {name: number for number, name in enumerate(folders)}
    unknown = sorted(set(folders) - set(class_names))
    if unknown:
        raise SettingsError(f"{path} has folders that the classes setting does not name: {', '.join(unknown[:5])}.")
    return {name: class_names.index(name) for name in folders}


def _read_image(file: Path, shape: tuple[int, int, int]) -> np.ndarray[Any, Any]:
    return read_picture(file, shape[0], lambda given: shape[1:])


def read_picture(
    file: Path, channels: int, target: Callable[[tuple[int, int]], tuple[int, int]]
) -> np.ndarray[Any, Any]:
    """Float32 ``(C, H, W)`` in [0, 1] of a picture; ``target``: the (height, width) to make of the one that it has.

    Raises SettingsError if it cannot be read, or if no picture has so many channels.
    """
    import numpy as np
    from PIL import Image

    modes = {1: "L", 3: "RGB", 4: "RGBA"}
    if channels not in modes:
        raise SettingsError(f"Image files have 1, 3 or 4 channels, the model takes {channels}; give an .npz file.")
    try:
        with Image.open(file) as opened:
            image = opened.convert(modes[channels])
    except Exception as error:  # Pillow raises many types for a damaged image
        raise SettingsError(
            f"The clean sample {file} cannot be read ({one_line(error)}) Replace or remove it."
        ) from error
    height, width = target((image.height, image.width))
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, np.float32).reshape(height, width, channels) / np.float32(255)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))
