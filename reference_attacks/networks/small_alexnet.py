"""The scaled-down AlexNet for CIFAR-10 that Poison Frogs (2018), §4, attacks end to end."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import conv2d

CROP = 24
FEATURES = 192
CHANNELS = 64
# Of the normalisation: over how many channels on each side, its bias and its factor, as in the tutorial network.
RADIUS = 4
BIAS = 1.0
FACTOR = 0.001 / 9


class ChannelNormalisation(nn.Module):
    """Local response normalisation (Krizhevsky et al. 2012): ``x / (1 + a·s)^0.75``, s the squares of nine channels.

    ``torch.nn.LocalResponseNorm`` computes the same several times as slowly: here the sum over neighbouring channels
    is a 1x1 convolution.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        numbers = torch.arange(channels)
        near = (numbers[:, None] - numbers).abs() <= RADIUS
        self.register_buffer("near", near.float()[:, :, None, None], persistent=False)
        self.near: torch.Tensor

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Features of the same shape ``(N, channels, H, W)``."""
        scale = BIAS + FACTOR * conv2d(features * features, self.near.to(features.dtype))
        return features * torch.rsqrt(scale * torch.sqrt(scale))


class SmallAlexNet(nn.Module):
    """Two 5x5 convolutions of 64 channels, pooled and normalised, and hidden layers of 384 and 192 units.

    The paper gives the details in a supplement that we do not have. This is the network of that name in Zhang et al.,
    "Understanding deep learning requires rethinking generalization" (2017), and in TensorFlow's CIFAR-10 tutorial; the
    last hidden layer's 192 units and a bias are the 193 dimensions that the paper speaks of (§4.1). As the tutorial
    (and before it cuda-convnet) does, it sees the central 24x24 of 32x32 pixels.

    Input: float ``(N, C, H, W)`` in [0, 1]; of smaller images it sees all. Output: float ``(N, classes)`` logits.
    """

    def __init__(self, input_shape: tuple[int, int, int], classes: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        channels, height, width = input_shape
        self.crop = min(height, CROP), min(width, CROP)
        self.conv1 = nn.Conv2d(channels, CHANNELS, 5, padding=2)
        self.conv2 = nn.Conv2d(CHANNELS, CHANNELS, 5, padding=2)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.normalise = ChannelNormalisation(CHANNELS)
        # Each pool halves, rounding up.
        rows, columns = (-(-length // 4) for length in self.crop)
        self.fc1 = nn.Linear(CHANNELS * rows * columns, 384)
        self.fc2 = nn.Linear(384, FEATURES)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(FEATURES, classes)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Float ``(N, 192)``: what the last layer sees."""
        rows, columns = self.crop
        top, left = (images.shape[-2] - rows) // 2, (images.shape[-1] - columns) // 2
        seen = (images[..., top : top + rows, left : left + columns] - 0.5) * 4
        for convolution in (self.conv1, self.conv2):
            # The maximum of rectified values is the rectified maximum, which has a quarter as many.
            seen = self.normalise(torch.relu(self.pool(convolution(seen))))
        return torch.relu(self.fc2(torch.relu(self.fc1(seen.flatten(1)))))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of images."""
        logits: torch.Tensor = self.output(self.dropout(self.features(images)))
        return logits
