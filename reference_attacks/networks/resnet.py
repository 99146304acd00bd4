"""ResNet-20 for images of 32x32 pixels (He et al. 2016, §4.2), which MetaPoison attacks."""

from __future__ import annotations

import torch
from torch import nn

from .families import convolution

WIDTHS = (16, 32, 64)
BLOCKS = 3


class Block(nn.Module):
    """Two 3x3 convolutions with batch normalisation beside a shortcut.

    The shortcut is the identity, or where the shape changes a 1x1 convolution with batch normalisation (option B).
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = convolution(inputs, outputs, stride=stride)
        self.second = nn.Sequential(nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs))
        self.shortcut = (
            nn.Identity()
            if inputs == outputs and stride == 1
            else nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Features ``(N, outputs, H / stride, W / stride)``."""
        return torch.relu(self.second(self.first(features)) + self.shortcut(features))


class ResNet20(nn.Module):
    """A 3x3 convolution, three stages of three blocks with 16, 32 and 64 channels, global average pool, one layer.

    He et al. give shortcuts on CIFAR-10 no weights (option A); those of the authors of MetaPoison have them, and so do
    these. Their kernels are drawn by Glorot's rule, and so are these.

    Input: float ``(N, C, H, W)`` in [0, 1]. Output: float ``(N, classes)`` logits.
    """

    def __init__(self, input_shape: tuple[int, int, int], classes: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        stages: list[nn.Module] = [convolution(input_shape[0], WIDTHS[0])]
        inputs = WIDTHS[0]
        for stage, width in enumerate(WIDTHS):
            for number in range(BLOCKS):
                stages.append(Block(inputs, width, 2 if stage and not number else 1))
                inputs = width
        self.stages = nn.Sequential(*stages)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(WIDTHS[-1], classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Float ``(N, 64)``: what the last layer sees."""
        averaged: torch.Tensor = self.stages((images - 0.5) * 4).mean((2, 3))
        return averaged

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of images."""
        logits: torch.Tensor = self.output(self.dropout(self.features(images)))
        return logits
