"""Small networks of several architecture families for images of about 32 pixels.

All take float ``(N, C, H, W)`` images in [0, 1] and return float ``(N, classes)`` logits. ``dropout`` acts before the
last layer; zoos are trained without it, detectors use it to vary networks. Layers with many channels work on small
maps, and pooling comes before normalisation, because memory traffic is what costs time on such networks.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import grid_sample

VGG_WIDTHS = (16, 32, 64, 64, 128)
RESNET_WIDTHS = (16, 32, 64, 96)
DEPTHWISE_WIDTHS = (24, 48, 96, 128)


def convolution(inputs: int, outputs: int, *, pool: bool = False, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    """Convolution, optional 2x2 maximum pool, batch normalisation, ReLU."""
    layers: list[nn.Module] = [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)]
    if pool:
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.BatchNorm2d(outputs), nn.ReLU())


class VggNetwork(nn.Module):
    """VGG-like (Simonyan and Zisserman 2015): 3x3 convolutions and maximum pools, one hidden layer."""

    def __init__(self, input_shape: tuple[int, int, int], classes: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        channels, height, width = input_shape
        first, second, third, fourth, fifth = VGG_WIDTHS
        self.features = nn.Sequential(
            convolution(channels, first, pool=True),
            convolution(first, second, pool=True),
            convolution(second, third),
            convolution(third, fourth, pool=True),
            convolution(fourth, fifth, pool=True),
        )
        self.hidden = nn.Linear(fifth * (height // 16) * (width // 16), 128)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(128, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of images."""
        hidden = torch.relu(self.hidden(self.features(images).flatten(1)))
        logits: torch.Tensor = self.output(self.dropout(hidden))
        return logits


class SpatialTransformer(nn.Module):
    """Turns, scales and shifts each image by what a small network sees in it (Jaderberg et al. 2015)."""

    def __init__(self, input_shape: tuple[int, int, int]) -> None:
        super().__init__()
        channels, height, width = input_shape
        self.localise = nn.Sequential(
            nn.AvgPool2d(2),
            nn.Conv2d(channels, 8, 5, padding=2),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Conv2d(8, 16, 5, padding=2),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(16 * (height // 8) * (width // 8), 32),
            nn.ReLU(),
        )
        self.transformation = nn.Linear(32, 6)
        nn.init.zeros_(self.transformation.weight)
        with torch.no_grad():
            self.transformation.bias.copy_(torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0, 0.0]))
        self.register_buffer("places", _places(height, width), persistent=False)
        self.places: torch.Tensor

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images of the same shape; it starts as the identity."""
        # torch's affine_grid computes the same, but has no batching rule for vmap. The pixels are the last axis because
        # an axis of two or three would cost more than a convolution.
        theta = self.transformation(self.localise(images)).float().view(-1, 2, 3, 1)
        columns, rows = self.places
        grid = theta[:, :, 0] * columns + theta[:, :, 1] * rows + theta[:, :, 2]
        grid = grid.transpose(1, 2).unflatten(1, images.shape[-2:])
        return grid_sample(images, grid, padding_mode="border", align_corners=False)


def _places(height: int, width: int) -> torch.Tensor:
    """Float ``(2, H·W)``: x and y of each pixel's centre in [-1, 1]."""
    rows = (2 * torch.arange(height) + 1) / height - 1
    columns = (2 * torch.arange(width) + 1) / width - 1
    return torch.stack([columns.repeat(height), rows.repeat_interleave(width)])


class TransformerVggNetwork(nn.Module):
    """The VGG-like network behind a spatial transformer (Universal Litmus Patterns, §4.3)."""

    def __init__(self, input_shape: tuple[int, int, int], classes: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.transformer = SpatialTransformer(input_shape)
        self.classifier = VggNetwork(input_shape, classes, dropout=dropout)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of images."""
        logits: torch.Tensor = self.classifier(self.transformer(images))
        return logits


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside a 1x1 one (He et al. 2016, option B)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = convolution(inputs, outputs, stride=stride)
        self.second = nn.Sequential(nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs))
        self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Features ``(N, outputs, H / stride, W / stride)``."""
        return torch.relu(self.second(self.first(features)) + self.shortcut(features))


class AveragedNetwork(nn.Module):
    """Convolutions, global average pool, one layer. ``width``: the number of channels that ``features`` ends with."""

    def __init__(self, features: nn.Sequential, width: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.features = features
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(width, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of images."""
        logits: torch.Tensor = self.output(self.dropout(self.features(images).mean((2, 3))))
        return logits


class ResidualNetwork(AveragedNetwork):
    """A small ResNet: a pooled stem, three residual blocks, global average pool."""

    def __init__(self, input_shape: tuple[int, int, int], classes: int, *, dropout: float = 0.0) -> None:
        stem, first, second, third = RESNET_WIDTHS
        features = nn.Sequential(
            convolution(input_shape[0], stem, pool=True),
            ResidualBlock(stem, first, 2),
            ResidualBlock(first, second, 1),
            ResidualBlock(second, third, 2),
        )
        super().__init__(features, third, classes, dropout)


class DepthwiseConvolution(nn.Conv2d):
    """A 3x3 convolution of each channel by itself, in float32: its bfloat16 kernels are slow on CPUs."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__(channels, channels, 3, stride, 1, groups=channels, bias=False)

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - the base class calls it so
        """Features ``(N, C, H / stride, W / stride)``."""
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input.float())


def separable(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """A 3x3 convolution of each channel by itself, then a 1x1 convolution (Howard et al. 2017)."""
    return nn.Sequential(
        DepthwiseConvolution(inputs, stride), nn.BatchNorm2d(inputs), nn.ReLU(), *convolution(inputs, outputs, kernel=1)
    )


class DepthwiseNetwork(AveragedNetwork):
    """MobileNet-like: depthwise-separable convolutions, global average pool."""

    def __init__(self, input_shape: tuple[int, int, int], classes: int, *, dropout: float = 0.0) -> None:
        stem, first, second, third = DEPTHWISE_WIDTHS
        features = nn.Sequential(
            convolution(input_shape[0], stem, stride=2),
            separable(stem, first, 2),
            separable(first, second, 1),
            separable(second, third, 2),
            separable(third, third, 1),
        )
        super().__init__(features, third, classes, dropout)
