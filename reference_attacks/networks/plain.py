"""The plain network: the digit classifier of BadNets (2019), Table I, for images of any size."""

from __future__ import annotations

import torch
from torch import nn


class PlainNetwork(nn.Module):
    """Two 5x5 convolutions with ReLU and a 2x2 average pool each, a hidden layer of 512 units, one output a class.

    For ``width=16`` and MNIST this is Table I. The table lists the last layer's activation as softmax; this module
    returns the logits and leaves the softmax to the loss, which is the same function. The table's "32x4x4" input of
    ``fc1`` and its filter size "256x512" disagree (32·4·4 is 512); the input size is right and is what is built here.

    Input: float ``(N, C, H, W)`` in [0, 1] with H and W at least 16. Output: float ``(N, classes)`` logits.
    """

    def __init__(
        self, input_shape: tuple[int, int, int], classes: int, *, width: int = 16, dropout: float = 0.0
    ) -> None:
        super().__init__()
        channels, height, width_of_image = input_shape
        self.conv1 = nn.Conv2d(channels, width, 5)
        self.conv2 = nn.Conv2d(width, 2 * width, 5)
        self.pool = nn.AvgPool2d(2)
        self.fc1 = nn.Linear(2 * width * _after(height) * _after(width_of_image), 512)
        self.dropout = nn.Dropout(dropout)
        self.fc2 = nn.Linear(512, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of images; shapes as in the class."""
        features = self.pool(torch.relu(self.conv1(images)))
        features = self.pool(torch.relu(self.conv2(features)))
        hidden = torch.relu(self.fc1(features.flatten(1)))
        return self.fc2(self.dropout(hidden))


def _after(length: int) -> int:
    """How long an axis is after both convolutions and pools."""
    return ((length - 4) // 2 - 4) // 2


class BadNetsMnistNetwork(PlainNetwork):
    """The digit classifier of BadNets (2019), Table I, exactly.

    Input: float ``(N, 1, 28, 28)`` in [0, 1]. Output: float ``(N, 10)`` logits.
    """

    input_shape = (1, 28, 28)
    classes = 10

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__(self.input_shape, self.classes, dropout=dropout)


def mnist_badnet(seed: int = 0) -> BadNetsMnistNetwork:
    """A freshly initialised network of Table I whose weights depend on ``seed`` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return BadNetsMnistNetwork()
