"""Image files and arrays of a user: a folder with one sub-folder for each class, or an ``.npz`` file."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..errors import SettingsError
from ._classifier import one_line

if TYPE_CHECKING:
    import numpy as np

IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm", ".webp", ".tif", ".tiff"}
MEANINGS = {"data": "clean samples", "train_data": "training images"}


@dataclass(frozen=True, kw_only=True)
class ImageSource:
    """Images that are read when they are asked for, in an order of their own.

    ``names``: where each is, as reports say it: its path below a folder, or its row in ``x``. ``labels``: int64
    ``(N,)`` or None. ``read``: float32 ``(n, C, H, W)`` in [0, 1] of the images with int64 numbers ``(n,)``; raises
    SettingsError for one that cannot be read. ``path`` and ``classes``: for error texts.
    """

    path: Path
    names: Sequence[str]
    labels: np.ndarray[Any, Any] | None
    classes: int
    read: Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]

    def __len__(self) -> int:
        return len(self.names)

    def require_labels_of_model(self, labels: np.ndarray[Any, Any]) -> None:
        """Raise SettingsError if one of ``labels``, int64 ``(n,)``, is no class of the model."""
        if len(labels) and not 0 <= labels.min() <= labels.max() < self.classes:
            raise SettingsError(
                f"{self.path} has labels from {labels.min()} to {labels.max()}, but the model has {self.classes} "
                "classes; give the samples that belong to this model."
            )


def open_images(
    source: str,
    *,
    root: Path,
    input_shape: tuple[int, int, int],
    classes: int,
    class_names: tuple[str, ...] | None,
    setting: Literal["data", "train_data"],
) -> ImageSource:
    """The images of ``source``, which is relative to ``root``: a folder with a sub-folder for each class, or ``.npz``.

    Folders of an image tree are the classes in the order of ``class_names``, else in alphabetical order. ``setting``:
    the one that names the source. Raises SettingsError if it cannot be read or does not fit the model.
    """
    path, what = root / source, MEANINGS[setting]
    if path.is_dir():
        return _open_folder(path, input_shape, classes, class_names, what)
    if path.suffix == ".npz" and path.is_file():
        return _open_npz(path, input_shape, classes, what)
    raise SettingsError(f"The {what} {path} are neither a folder of images nor an .npz file; check {setting}.")


def _open_npz(path: Path, input_shape: tuple[int, int, int], classes: int, what: str) -> ImageSource:
    images, labels = images_of_npz(path, what)
    if labels is not None:
        labels = _class_numbers(labels, len(images), path)
    return ImageSource(
        path=path,
        names=[str(row) for row in range(len(images))],
        labels=labels,
        classes=classes,
        read=lambda chosen: _channels_first(images[chosen], input_shape, path),
    )


def images_of_npz(path: Path, what: str = "clean samples") -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any] | None]:
    """The arrays ``x``, of any shape but numbers, and ``y``, if there is one, as they are in the file.

    ``what``: what the file holds, for error texts.
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
            f"The {what} {path} cannot be read ({one_line(error)}) Save them with np.savez(path, x=images)."
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


def _open_folder(
    path: Path, input_shape: tuple[int, int, int], classes: int, class_names: tuple[str, ...] | None, what: str
) -> ImageSource:
    import numpy as np

    folders = sorted(entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not folders:
        raise SettingsError(f"{path} has no sub-folder for each class; arrange the {what} as CLASS/IMAGE.png.")
    numbers = _class_order(path, [folder.name for folder in folders], class_names)
    files = [
        (file, numbers[folder.name])
        for folder in folders
        for file in sorted(folder.iterdir())
        if file.suffix.lower() in IMAGE_SUFFIXES and not file.name.startswith(".")
    ]
    if not files:
        raise SettingsError(f"{path} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))}).")
    return ImageSource(
        path=path,
        names=[f"{file.parent.name}/{file.name}" for file, _ in files],
        labels=np.array([number for _, number in files], np.int64),
        classes=classes,
        read=lambda chosen: np.stack([_read_image(files[number][0], input_shape, what) for number in chosen]),
    )


def _class_order(path: Path, folders: list[str], class_names: tuple[str, ...] | None) -> dict[str, int]:
    if class_names is None:
        return {name: number for number, name in enumerate(folders)}
    unknown = sorted(set(folders) - set(class_names))
    if unknown:
        raise SettingsError(f"{path} has folders that the classes setting does not name: {', '.join(unknown[:5])}.")
    return {name: class_names.index(name) for name in folders}


def _read_image(file: Path, shape: tuple[int, int, int], what: str) -> np.ndarray[Any, Any]:
    return read_picture(file, shape[0], lambda given: shape[1:], what.removesuffix("s"))


def read_picture(
    file: Path,
    channels: int,
    target: Callable[[tuple[int, int]], tuple[int, int]],
    what: str = "clean sample",
) -> np.ndarray[Any, Any]:
    """Float32 ``(C, H, W)`` in [0, 1] of a picture; ``target``: the (height, width) to make of the one that it has.

    ``what``: what it is, for error texts. Raises SettingsError if it cannot be read, or if no picture has so many
    channels.
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
        raise SettingsError(f"The {what} {file} cannot be read ({one_line(error)}) Replace or remove it.") from error
    height, width = target((image.height, image.width))
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, np.float32).reshape(height, width, channels) / np.float32(255)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))
