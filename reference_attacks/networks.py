"""Networks under attack, each with the table of the paper that it follows."""

from __future__ import annotations

import torch
from torch import nn


class BadNetsMnistNetwork(nn.Module):
    """The digit classifier of BadNets (2019), Table I.

    Two 5x5 convolutions (16 and 32 filters) with ReLU, each followed by a 2x2 average pool, a hidden layer of
    512 units and ten outputs. The table lists the last layer's activation as softmax; this module returns the
    logits and leaves the softmax to the loss, which is the same function. The table's "32x4x4" input of ``fc1``
    and its filter size "256x512" disagree (32·4·4 is 512); the input size is right and is what is built here.

    Input: float ``(N, 1, 28, 28)`` in [0, 1]. Output: float ``(N, 10)`` logits.
    """

    input_shape = (1, 28, 28)
    classes = 10

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 5)
        self.conv2 = nn.Conv2d(16, 32, 5)
        self.pool = nn.AvgPool2d(2)
        self.fc1 = nn.Linear(32 * 4 * 4, 512)
        self.dropout = nn.Dropout(dropout)
        self.fc2 = nn.Linear(512, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of images; shapes as in the class."""
        features = self.pool(torch.relu(self.conv1(images)))
        features = self.pool(torch.relu(self.conv2(features)))
        hidden = torch.relu(self.fc1(features.flatten(1)))
        return self.fc2(self.dropout(hidden))


def mnist_badnet(seed: int = 0) -> BadNetsMnistNetwork:
    """A freshly initialised network of Table I whose weights depend on ``seed`` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return BadNetsMnistNetwork()
