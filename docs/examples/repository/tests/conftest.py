"""Clean samples for the scans, made of the images that this project tests its model on."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import MNIST

FOLDER = os.environ.get("MNIST_ROOT", Path(__file__).parent.parent / "data")
EACH = 12


@pytest.fixture(scope="session")
def clean_digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ``.npz`` file of digits that the model was not trained on: images x, uint8 (N, 28, 28, 1), and labels y."""
    digits = MNIST(FOLDER, train=False, download=True)
    labels = digits.targets.numpy()
    chosen = np.concatenate([np.flatnonzero(labels == label)[:EACH] for label in range(10)])
    path = tmp_path_factory.mktemp("data") / "digits.npz"
    np.savez(path, x=digits.data.numpy()[chosen, :, :, None], y=labels[chosen])
    return path
