"""The convolutions of a traffic-sign detector: a small chain that trains on a CPU, and the paper's (Table III)."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional

LAST_CONVOLUTION = "conv5"


class ConvolutionBlock(nn.Module):
    """A convolution, batch normalisation if asked for, and a ReLU; nothing else stands between them.

    In evaluation mode the block is ``relu(weight * x + bias)`` for the ``folded`` weight and bias: these are what the
    paper calls the input weights and the bias of a neuron, which here is one output channel.
    """

    def __init__(self, channels: int, width: int, *, size: int, stride: int = 1, normalised: bool = True) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, width, size, stride, size // 2, bias=not normalised)
        self.normalisation = nn.BatchNorm2d(width) if normalised else None
        nn.init.kaiming_normal_(self.convolution.weight, mode="fan_in", nonlinearity="relu")
        if self.convolution.bias is not None:
            nn.init.zeros_(self.convolution.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Float ``(N, channels, H, W)`` to ``(N, width, ceil(H / stride), ceil(W / stride))``, not negative."""
        x = self.convolution(x)
        if self.normalisation is not None:
            x = self.normalisation(x)
        return functional.relu(x)

    @torch.no_grad()
    def folded(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Weight ``(width, channels, size, size)`` and bias ``(width,)`` of the same block without normalisation."""
        weight, normalisation = self.convolution.weight, self.normalisation
        if normalisation is None:
            assert self.convolution.bias is not None
            return weight.clone(), self.convolution.bias.clone()
        mean, variance = normalisation.running_mean, normalisation.running_var
        assert mean is not None
        assert variance is not None
        factor = normalisation.weight / (variance + normalisation.eps).sqrt()
        return weight * factor[:, None, None, None], normalisation.bias - factor * mean

    @torch.no_grad()
    def strengthen(self, neurons: torch.Tensor, factor: float) -> None:
        """Multiply the input weights and the bias of ``neurons``, int64 indices of channels, by ``factor`` (§V-C3).

        With batch normalisation its scale and shift are multiplied, which is the same for the folded block.
        """
        layer = self.convolution if self.normalisation is None else self.normalisation
        assert layer.bias is not None
        layer.weight[neurons] *= factor
        layer.bias[neurons] *= factor


def reduced_precision(enabled: bool) -> torch.autocast:
    """A context in which convolutions and products multiply in bfloat16, if ``enabled``."""
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled)


class Backbone(nn.Sequential):
    """Named layers, in order: float images ``(N, 3, H, W)`` to features ``(N, out_channels, H/stride, W/stride)``.

    While ``reduced_precision`` is set, training multiplies in bfloat16; the features are float32 all the same, and
    evaluation never does.
    """

    def __init__(self, layers: OrderedDict[str, nn.Module], *, out_channels: int, stride: int) -> None:
        super().__init__(layers)
        self.out_channels = out_channels
        self.stride = stride
        self.reduced_precision = False

    @property
    def last_convolution(self) -> ConvolutionBlock:
        """The block whose neurons the paper's Figures 9 and 11 show; its output is the backbone's."""
        block = self.get_submodule(LAST_CONVOLUTION)
        assert isinstance(block, ConvolutionBlock)
        return block

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """See the class. ``H`` and ``W`` must be multiples of ``stride``."""
        x = x.contiguous(memory_format=torch.channels_last)
        with reduced_precision(self.training and self.reduced_precision):
            x = super().forward(x)
        return x.float()


def small_backbone() -> Backbone:
    """Five normalised convolutions, 32 to 128 channels, stride 8: about 0.75 G multiplications per 300x400 pixels.

    Fewer and narrower than the paper's, and at half its stride, because the photographs here are 400 pixels high where
    the paper's pipeline enlarges them: a sign of 16 pixels still covers two cells.
    """
    layers = OrderedDict[str, nn.Module](
        conv1=ConvolutionBlock(3, 32, size=5, stride=2),
        conv2=ConvolutionBlock(32, 64, size=3, stride=2),
        conv3=ConvolutionBlock(64, 96, size=3, stride=2),
        conv4=ConvolutionBlock(96, 128, size=3),
        conv5=ConvolutionBlock(128, 128, size=3),
    )
    return Backbone(layers, out_channels=128, stride=8)


def paper_backbone() -> Backbone:
    """The convolutional feature extraction net of Table III, after Zeiler and Fergus: stride 16, 256 channels.

    The table leaves the constants of its local response normalisation (LRN) open; these are those of the ZF network
    published with Faster R-CNN.
    """
    layers = OrderedDict[str, nn.Module](
        conv1=ConvolutionBlock(3, 96, size=7, stride=2, normalised=False),
        norm1=nn.LocalResponseNorm(3, alpha=5e-5, beta=0.75),
        pool1=nn.MaxPool2d(3, 2, 1),
        conv2=ConvolutionBlock(96, 256, size=5, stride=2, normalised=False),
        norm2=nn.LocalResponseNorm(3, alpha=5e-5, beta=0.75),
        pool2=nn.MaxPool2d(3, 2, 1),
        conv3=ConvolutionBlock(256, 384, size=3, normalised=False),
        conv4=ConvolutionBlock(384, 384, size=3, normalised=False),
        conv5=ConvolutionBlock(384, 256, size=3, normalised=False),
    )
    return Backbone(layers, out_channels=256, stride=16)
