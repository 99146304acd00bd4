"""How images are usually prepared for a network: the conventions that are tried where a user declares none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

from ..settings import ChannelOrder
from ._preprocessing import Preprocessing

if TYPE_CHECKING:
    import numpy as np

SAME_MEANING = 0.25


@dataclass(frozen=True, kw_only=True)
class Convention:
    """One way to prepare images, under the name that reports give it.

    ``input_range``, ``mean`` and ``std`` are those of ``ScanSettings``. ``channels``: how many an image must have for
    the convention to apply, None for any number.
    """

    name: str
    input_range: tuple[float, float] = (0.0, 1.0)
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    channel_order: ChannelOrder = "RGB"
    channels: int | None = None

    def applied_to(self, preprocessing: Preprocessing) -> Preprocessing:
        """``preprocessing`` with this convention's range, normalisation and channel order."""
        low, high = self.input_range
        return replace(
            preprocessing, low=low, high=high, mean=self.mean, std=self.std, channel_order=self.channel_order
        )


# Of conventions that do equally well the first is taken.
CONVENTIONS = (
    Convention(name="0 to 1"),
    Convention(name="0 to 255", input_range=(0.0, 255.0)),
    Convention(name="-1 to 1", input_range=(-1.0, 1.0)),
    Convention(name="ImageNet mean and std", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), channels=3),
    Convention(name="CIFAR-10 mean and std", mean=(0.4914, 0.4822, 0.4465), std=(0.247, 0.2435, 0.2616), channels=3),
    Convention(name="MNIST mean and std", mean=(0.1307,), std=(0.3081,), channels=1),
    Convention(
        name="Caffe, BGR with ImageNet mean",
        input_range=(0.0, 255.0),
        mean=(103.939, 116.779, 123.68),
        channel_order="BGR",
        channels=3,
    ),
)


def own_convention(images: np.ndarray[Any, Any]) -> Convention:
    """The mean and standard deviation of each channel of float ``(N, C, H, W)`` images in [0, 1], to four decimals.

    The standard deviation is at least 0.001: a channel that is the same everywhere would be divided by 0.
    """
    mean = images.mean(axis=(0, 2, 3), dtype="float64")
    std = images.std(axis=(0, 2, 3), dtype="float64")
    return Convention(
        name="mean and std of the samples",
        mean=tuple(round(float(part), 4) for part in mean),
        std=tuple(max(0.001, round(float(part), 4)) for part in std),
    )


def conventions_for(images: np.ndarray[Any, Any]) -> tuple[Convention, ...]:
    """Those that apply to float ``(N, C, H, W)`` images in [0, 1], in the order in which they are preferred."""
    channels = images.shape[1]
    named = (convention for convention in CONVENTIONS if convention.channels in (None, channels))
    return (*named, own_convention(images))


def swapped_channels(preprocessing: Preprocessing) -> Preprocessing:
    """``preprocessing`` for a model that takes the channels in the other order, each normalised as before."""
    return replace(
        preprocessing,
        channel_order="BGR" if preprocessing.channel_order == "RGB" else "RGB",
        mean=preprocessing.mean[::-1],
        std=preprocessing.std[::-1],
    )


def same_meaning(first: Preprocessing, second: Preprocessing) -> bool:
    """Whether a model can hardly tell the two apart.

    Both have one layout and channel order, and what they make of black and of white differs by at most a quarter of
    the smaller distance between black and white.
    """
    if (first.layout, first.channel_order) != (second.layout, second.channel_order):
        return False
    for (black, white), (other_black, other_white) in zip(_ends(first), _ends(second), strict=True):
        allowed = SAME_MEANING * min(white - black, other_white - other_black)
        if max(abs(black - other_black), abs(white - other_white)) > allowed:
            return False
    return True


def _ends(preprocessing: Preprocessing) -> Iterator[tuple[float, float]]:
    """What black and white become, for the channels again and again: 12 is a multiple of 1, 2, 3 and 4."""
    for mean, std in islice(zip(cycle(preprocessing.mean), cycle(preprocessing.std), strict=False), 12):
        yield (preprocessing.low - mean) / std, (preprocessing.high - mean) / std
