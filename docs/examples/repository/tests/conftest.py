"""Clean samples for the scans, made of what this project has: a sheet of digits, a row for each class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

PROJECT = Path(__file__).parent.parent
SIDE = 28


@pytest.fixture(scope="session")
def clean_digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ``.npz`` file of digits that the model was not trained on: images x, uint8 (N, 28, 28, 1), and labels y."""
    sheet = np.asarray(Image.open(PROJECT / "data" / "digits.png"))
    rows, columns = sheet.shape[0] // SIDE, sheet.shape[1] // SIDE
    images = sheet.reshape(rows, SIDE, columns, SIDE).swapaxes(1, 2).reshape(-1, SIDE, SIDE, 1)
    path = tmp_path_factory.mktemp("data") / "digits.npz"
    np.savez(path, x=images, y=np.arange(rows).repeat(columns))
    return path
