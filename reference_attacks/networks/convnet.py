"""The small convolutional network that MetaPoison is tried on where there is no GPU."""

from __future__ import annotations

import torch
from torch import nn

from .families import convolution

WIDTHS = (16, 32, 64)


class SmallConvNet(nn.Module):
    """Three 3x3 convolutions with batch normalisation, each halving the image, a 2x2 average pool, one layer.

    MetaPoison (2020) names a ConvNet in its code but not in the paper. This one keeps batch normalisation, which is
    what makes an image's logits depend on the others of its batch, and is as cheap as a few classes of CIFAR-10 allow:
    strides halve images before anything is normalised, because memory traffic is what costs time on such networks.

    Input: float ``(N, C, H, W)`` in [0, 1] with H and W at least 16. Output: float ``(N, classes)`` logits.
    """

    def __init__(self, input_shape: tuple[int, int, int], classes: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        channels, height, width = input_shape
        self.body = nn.Sequential(
            *(convolution(*pair, stride=2) for pair in zip((channels, *WIDTHS), WIDTHS, strict=False)),
            nn.AvgPool2d(2),
            nn.Flatten(),
        )
        # Each stride halves, rounding up, and the pool rounds down.
        rows, columns = (-(-length // 2 ** len(WIDTHS)) // 2 for length in (height, width))
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(WIDTHS[-1] * rows * columns, classes)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Float ``(N, D)``, 256 numbers for images of 32x32: what the last layer sees."""
        seen: torch.Tensor = self.body((images - 0.5) * 4)
        return seen

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of images."""
        logits: torch.Tensor = self.output(self.dropout(self.features(images)))
        return logits
