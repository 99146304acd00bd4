"""``python -m tools.example_digits``: the clean samples beside the example models, cut out of MNIST's test images."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch

from pytest_backdoor.files import write_atomically
from reference_attacks.data import load_mnist

FILE = Path(__file__).resolve().parent.parent / "docs" / "examples" / "mnist-digits.npz"
OF_EACH = 20


def main() -> None:
    """Write the first twenty test images of each digit: ``x`` uint8 (200, 28, 28, 1) and ``y`` int64 (200)."""
    digits = load_mnist(train=False)
    chosen = torch.cat([(digits.labels == digit).nonzero().flatten()[:OF_EACH] for digit in range(10)])
    images = digits.images[chosen].permute(0, 2, 3, 1).numpy()
    stream = io.BytesIO()
    np.savez_compressed(stream, x=images, y=digits.labels[chosen].numpy())
    write_atomically(FILE, stream.getvalue())


if __name__ == "__main__":
    main()
