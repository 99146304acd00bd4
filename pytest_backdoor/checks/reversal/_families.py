"""Families of triggers: how each may change an image, within a fixed budget."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch.nn.functional import affine_grid, grid_sample, interpolate

from ._sums import Sum

GRID = 5
WINDOW_SHARE = 0.19
ALPHAS = (0.1, 0.2)
WAVE_HEIGHT = 30 / 255
COARSE = 6
PIXEL_SHARES = (0.003, 0.012)
WARP_GRID = 4
WARP_REACH = 0.12


@dataclass(frozen=True, kw_only=True)
class Family(ABC):
    """One way to change images of ``input_shape``, (C, H, W).

    ``name``: as in the ``families`` setting. ``steps``: of the search. ``optimised`` and ``held_out``: on how many
    images a trigger is sought and tested, at most. ``per_source``: whether a trigger has to turn images of one class
    only, whichever that is.
    """

    input_shape: tuple[int, int, int]
    name: str
    steps: int
    optimised: int = 8
    held_out: int = 20
    per_source: bool = False

    @property
    @abstractmethod
    def labels(self) -> tuple[str, ...]:
        """Its slots, variants such as places, in words; each is searched and compared for itself."""

    @abstractmethod
    def start(self, arms: int, generator: torch.Generator) -> torch.Tensor:
        """Free parameters, float ``(arms, ...)``, the same random ones for all arms, so that they are comparable."""

    @abstractmethod
    def apply(self, images: torch.Tensor, parameters: torch.Tensor, slot: int) -> torch.Tensor:
        """Each image with each arm's trigger, float ``(arms, N, C, H, W)`` in [0, 1].

        ``images``: float ``(N, C, H, W)`` in [0, 1].
        """

    def from_image_gradient(self, gradient: torch.Tensor, slot: int) -> torch.Tensor | None:
        """The first step's gradient in ``slot``, of the parameters' shape; None if the family needs its own.

        ``gradient``: float ``(arms, C, H, W)``, of each arm's loss for a signal that is added to the images as they
        are.
        """
        return None

    def parts(self, images: torch.Tensor, parameters: torch.Tensor, slot: int) -> Sum | None:
        """What ``apply`` gives as a sum of what is every image's and what is every arm's; None where it is none."""
        return None

    @abstractmethod
    def mask(self, parameters: torch.Tensor, slot: int) -> torch.Tensor:
        """How much of each pixel one arm's trigger replaces, float ``(1, H, W)`` in [0, 1]."""


def _same_start(shape: tuple[int, ...], arms: int, generator: torch.Generator, spread: float = 0.1) -> torch.Tensor:
    start = torch.randn(1, *shape, generator=generator) * spread
    return start.repeat(arms, *[1] * len(shape))


def _bounded(parameters: torch.Tensor) -> torch.Tensor:
    return torch.sigmoid(2 * parameters)


@dataclass(frozen=True, kw_only=True)
class Patch(Family):
    """An opaque square patch, a slot for each of ``GRID`` · ``GRID`` places evenly spread over the image.

    Its side is a fifth of the image's. A planted patch that is smaller, or cut by a window's edge, still shows: what
    counts is how far the best patch in a window drives the network, compared with other targets in the same window.

    It starts grey, and its first step follows the gradient for the images as they are, which is computed once for all
    places: since a step of Adam from rest goes by signs alone, where the patch starts hardly matters to it.
    """

    name: str = "patch"
    steps: int = 3

    @property
    def side(self) -> int:
        """Of the window, in pixels."""
        return max(2, min(round(WINDOW_SHARE * min(self.input_shape[1:])), *self.input_shape[1:]))

    @cached_property
    def places(self) -> tuple[tuple[int, int], ...]:
        """Row and column of each window's upper left pixel."""
        rows, columns = (
            sorted({round(i * (size - self.side) / (GRID - 1)) for i in range(GRID)}) for size in self.input_shape[1:]
        )
        return tuple((row, column) for row in rows for column in columns)

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(
            f"rows {row} to {row + self.side - 1}, columns {column} to {column + self.side - 1}"
            for row, column in self.places
        )

    def start(self, arms: int, generator: torch.Generator) -> torch.Tensor:
        """Float ``(arms, C, side, side)``, all zero."""
        return torch.zeros(arms, self.input_shape[0], self.side, self.side)

    def from_image_gradient(self, gradient: torch.Tensor, slot: int) -> torch.Tensor | None:
        row, column = self.places[slot]
        return gradient[:, :, row : row + self.side, column : column + self.side]

    def parts(self, images: torch.Tensor, parameters: torch.Tensor, slot: int) -> Sum:
        row, column = self.places[slot]
        right, bottom = images.shape[3] - column - self.side, images.shape[2] - row - self.side
        edges = (column, right, row, bottom)
        pattern = torch.nn.functional.pad(_bounded(parameters), edges)
        return Sum(images=images * (1 - self.mask(parameters, slot)), arms=pattern)

    def apply(self, images: torch.Tensor, parameters: torch.Tensor, slot: int) -> torch.Tensor:
        return self.parts(images, parameters, slot).batch()

    def mask(self, parameters: torch.Tensor, slot: int) -> torch.Tensor:
        row, column = self.places[slot]
        mask = torch.zeros(1, *self.input_shape[1:], device=parameters.device)
        mask[:, row : row + self.side, column : column + self.side] = 1
        return mask


@dataclass(frozen=True, kw_only=True)
class SourcePatch(Patch):
    """An opaque square patch that has to turn images of one class only, whichever is turned most easily.

    It finds backdoors that leave the other classes alone (source-specific ones), at the price of large margins between
    classes that look alike.
    """

    name: str = "source-patch"
    steps: int = 8
    optimised: int = 16
    held_out: int = 40
    per_source: bool = True


@dataclass(frozen=True, kw_only=True)
class Pixels(Family):
    """A few opaque pixels anywhere, a slot for each number of them (ℓ0; after PixelBackdoor, Tao et al. 2022).

    Deviation: the most wanted pixels are chosen by a straight-through mask and not by shrinking an additive one.
    """

    name: str = "pixels"
    steps: int = 12

    @property
    def counts(self) -> tuple[int, ...]:
        """How many pixels the trigger of each slot has."""
        return tuple(max(1, round(share * math.prod(self.input_shape[1:]))) for share in PIXEL_SHARES)

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(f"{count} pixels" for count in self.counts)

    def start(self, arms: int, generator: torch.Generator) -> torch.Tensor:
        """Float ``(arms, C + 1, H, W)``: the pattern and how much each pixel is wanted."""
        channels, height, width = self.input_shape
        return _same_start((channels + 1, height, width), arms, generator)

    def apply(self, images: torch.Tensor, parameters: torch.Tensor, slot: int) -> torch.Tensor:
        mask = self._masks(parameters, slot)[:, None]
        return images[None] * (1 - mask) + _bounded(parameters[:, None, :-1]) * mask

    def _masks(self, parameters: torch.Tensor, slot: int) -> torch.Tensor:
        wanted = _bounded(parameters[:, -1:])
        flat = wanted.flatten(1)
        chosen = torch.zeros_like(flat).scatter_(1, flat.topk(self.counts[slot], dim=1).indices, 1.0).view_as(wanted)
        return chosen + wanted - wanted.detach()

    def mask(self, parameters: torch.Tensor, slot: int) -> torch.Tensor:
        return self._masks(parameters[None], slot)[0].detach().round()


@dataclass(frozen=True, kw_only=True)
class Blend(Family):
    """A whole image blended in, a slot for each opacity (blended injection, Chen et al. 2017)."""

    name: str = "blend"
    alphas: tuple[float, ...] = ALPHAS
    steps: int = 8

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(f"opacity {alpha:.0%}" for alpha in self.alphas)

    def start(self, arms: int, generator: torch.Generator) -> torch.Tensor:
        """Float ``(arms, C, H, W)``."""
        return _same_start(self.input_shape, arms, generator)

    def parts(self, images: torch.Tensor, parameters: torch.Tensor, slot: int) -> Sum:
        alpha = self.alphas[slot]
        return Sum(images=images * (1 - alpha), arms=_bounded(parameters) * alpha)

    def apply(self, images: torch.Tensor, parameters: torch.Tensor, slot: int) -> torch.Tensor:
        return self.parts(images, parameters, slot).batch()

    def mask(self, parameters: torch.Tensor, slot: int) -> torch.Tensor:
        return torch.full((1, *self.input_shape[1:]), self.alphas[slot], device=parameters.device)


@dataclass(frozen=True, kw_only=True)
class Wave(Family):
    """A signal of at most 30/255 added to the image: upright stripes, level stripes, or a smooth one.

    The stripes hold every sinusoidal signal (Barni et al. 2019); the smooth one, 6 by 6 values interpolated, shadows
    and colour casts.
    """

    name: str = "wave"
    steps: int = 8

    @property
    def labels(self) -> tuple[str, ...]:
        return "upright stripes", "level stripes", "smooth"

    def start(self, arms: int, generator: torch.Generator) -> torch.Tensor:
        """Float ``(arms, C, L)``, L being the largest number of values that a slot takes."""
        channels, height, width = self.input_shape
        return _same_start((channels, max(height, width, COARSE * COARSE)), arms, generator)

    def _signal(self, parameters: torch.Tensor, slot: int) -> torch.Tensor:
        _, height, width = self.input_shape
        if slot == 0:
            coarse = parameters[:, :, None, :width]
        elif slot == 1:
            coarse = parameters[:, :, :height, None]
        else:
            square = parameters[:, :, : COARSE * COARSE].reshape(len(parameters), -1, COARSE, COARSE)
            coarse = interpolate(square, size=(height, width), mode="bilinear", align_corners=True)
        return (WAVE_HEIGHT * torch.tanh(coarse)).expand(-1, -1, height, width)

    def apply(self, images: torch.Tensor, parameters: torch.Tensor, slot: int) -> torch.Tensor:
        return (images[None] + self._signal(parameters, slot)[:, None]).clamp(0, 1)

    def mask(self, parameters: torch.Tensor, slot: int) -> torch.Tensor:
        return self._signal(parameters[None], slot)[0].abs().amax(0, keepdim=True) / WAVE_HEIGHT


@dataclass(frozen=True, kw_only=True)
class Warp(Family):
    """A smooth warp: 4 by 4 displacements of up to 6 % of the image's side (after WaNet, Nguyen and Tran 2021)."""

    name: str = "warp"
    steps: int = 8

    @property
    def labels(self) -> tuple[str, ...]:
        return ("smooth displacement",)

    def start(self, arms: int, generator: torch.Generator) -> torch.Tensor:
        """Float ``(arms, 2, 4, 4)``."""
        return _same_start((2, WARP_GRID, WARP_GRID), arms, generator)

    def _grid(self, parameters: torch.Tensor) -> torch.Tensor:
        height, width = self.input_shape[1:]
        field = interpolate(torch.tanh(parameters), size=(height, width), mode="bicubic", align_corners=True)
        identity = torch.eye(2, 3, device=parameters.device).expand(len(parameters), 2, 3)
        still = affine_grid(identity, [len(parameters), 1, height, width], align_corners=False)
        return still + WARP_REACH * field.permute(0, 2, 3, 1)

    def apply(self, images: torch.Tensor, parameters: torch.Tensor, slot: int) -> torch.Tensor:
        arms, count = len(parameters), len(images)
        grid = self._grid(parameters).repeat_interleave(count, dim=0)
        warped = grid_sample(
            images.repeat(arms, 1, 1, 1), grid, mode="bilinear", padding_mode="border", align_corners=False
        )
        return warped.reshape(arms, count, *self.input_shape)

    def mask(self, parameters: torch.Tensor, slot: int) -> torch.Tensor:
        return torch.ones(1, *self.input_shape[1:], device=parameters.device)


_FAMILIES: dict[str, Callable[..., Family]] = {
    "patch": Patch,
    "source-patch": SourcePatch,
    "pixels": Pixels,
    "blend": Blend,
    "wave": Wave,
    "warp": Warp,
}


def make_family(name: str, input_shape: tuple[int, int, int]) -> Family:
    """The family of that name for images of ``input_shape``, (C, H, W)."""
    return _FAMILIES[name](input_shape=input_shape)
