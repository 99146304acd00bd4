"""The input shape of a live network, read from the clean samples or the training images."""

from __future__ import annotations

from pathlib import Path

from ..settings import ScanSettings


def input_shape_of_samples(settings: ScanSettings, root: Path) -> tuple[int, int, int] | None:
    """(C, H, W) of the images in the ``.npz`` of ``data``, else of ``train_data``; None if neither says it."""
    sources = (source for source in (settings.data, settings.train_data) if source and source.endswith(".npz"))
    return next(filter(None, (_shape_in(root / source) for source in sources)), None)


def _shape_in(path: Path) -> tuple[int, int, int] | None:
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as archive:
            shape = archive["x"].shape[1:]
    except (OSError, ValueError, KeyError):
        return None
    if len(shape) == 2:
        shape = (*shape, 1)
    if len(shape) != 3:
        return None
    channels_first = shape[0] in (1, 3, 4) and shape[2] not in (1, 3, 4)
    return shape if channels_first else (shape[2], shape[0], shape[1])
