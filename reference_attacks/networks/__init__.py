"""Networks under attack, by architecture family."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import nn

from .convnet import SmallConvNet
from .families import DepthwiseNetwork, ResidualNetwork, TransformerVggNetwork, VggNetwork
from .plain import BadNetsMnistNetwork, PlainNetwork, mnist_badnet
from .resnet import ResNet20
from .small_alexnet import SmallAlexNet

__all__ = [
    "FAMILIES",
    "BadNetsMnistNetwork",
    "PlainNetwork",
    "ResNet20",
    "SmallAlexNet",
    "SmallConvNet",
    "make_network",
    "mnist_badnet",
]

SMALLEST = 16


class Family(Protocol):
    """What makes a network of one family."""

    def __call__(self, input_shape: tuple[int, int, int], classes: int, *, dropout: float = ...) -> nn.Module:
        """An initialised network for images of this shape (C, H, W)."""
        ...


def sign_head(input_shape: tuple[int, int, int], classes: int, *, dropout: float = 0.0) -> nn.Module:
    """See ``SignHeadNetwork``, whose module imports torchvision."""
    from .sign_head import SignHeadNetwork

    return SignHeadNetwork(input_shape, classes, dropout=dropout)


FAMILIES: dict[str, Family] = {
    "plain": PlainNetwork,
    "vgg": VggNetwork,
    "transformer-vgg": TransformerVggNetwork,
    "resnet": ResidualNetwork,
    "depthwise": DepthwiseNetwork,
    "sign-head": sign_head,
    "small-alexnet": SmallAlexNet,
    "small-convnet": SmallConvNet,
    "resnet-20": ResNet20,
}


def make_network(
    family: str, input_shape: tuple[int, int, int], classes: int, *, seed: int = 0, dropout: float = 0.0
) -> nn.Module:
    """A freshly initialised network whose weights depend on ``seed`` alone.

    Raises ValueError for no such family, and for images smaller than 16 pixels, of which pooling would leave nothing.
    """
    if family not in FAMILIES:
        raise ValueError(f"There is no architecture family {family!r}; choose one of {', '.join(FAMILIES)}.")
    if min(input_shape[1:]) < SMALLEST:
        raise ValueError(
            f"Images of {input_shape[1]}x{input_shape[2]} pixels are too small; enlarge them to at least "
            f"{SMALLEST}x{SMALLEST}."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return FAMILIES[family](input_shape, classes, dropout=dropout)
