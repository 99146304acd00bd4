"""Triggers as overlays: what an attacker adds to an image, at every place where it may lie.

One form for patches, single pixels, blended images and waves, so that a batch gets its triggers in one operation on the
device: ``image · keep + add``, cut to [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from .triggers import Corner, Trigger

Place = Literal["corners", "centre"]
BLEND = 0.2
WAVE_HEIGHT = 30 / 255
MARGIN = 1


@dataclass(frozen=True, kw_only=True)
class Overlay:
    """A trigger at each of P places.

    ``keep``: float ``(P, 1, H, W)`` in [0, 1], the share of the image that stays. ``add``: float ``(P, C, H, W)``.
    """

    keep: torch.Tensor
    add: torch.Tensor

    def __len__(self) -> int:
        return len(self.keep)

    def apply(self, images: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """Images ``(N, C, H, W)`` in [0, 1] with the trigger at ``places``, int64 ``(N,)`` in [0, P)."""
        return (images * self.keep[places] + self.add[places]).clamp_(0, 1)


def patch(pattern: torch.Tensor, input_shape: tuple[int, int, int], place: Place) -> Overlay:
    """An opaque patch, float ``(C, h, w)`` in [0, 1], in the four corners or anywhere on the middle of the image.

    The middle stands for the surface of a traffic sign (Universal Litmus Patterns, §4.3): the patch lies within the
    central two thirds.
    """
    size = pattern.shape[-1]
    offsets = patch_offsets(size, input_shape, place)
    keep = torch.ones(len(offsets), 1, *input_shape[1:])
    add = torch.zeros(len(offsets), *input_shape)
    for number, (row, column) in enumerate(offsets):
        keep[number, :, row : row + size, column : column + size] = 0
        add[number, :, row : row + size, column : column + size] = pattern
    return Overlay(keep=keep, add=add)


def in_corner(trigger: Trigger, input_shape: tuple[int, int, int], corner: Corner = "bottom-right") -> Overlay:
    """A trigger that replaces pixels, at one place: as ``Trigger.apply`` on images in [0, 1]."""
    row, column = trigger.offsets(input_shape[1], input_shape[2], corner)
    height, width = trigger.mask.shape
    keep = torch.ones(1, 1, *input_shape[1:])
    keep[..., row : row + height, column : column + width] = (~trigger.mask).float()
    drawn = trigger.apply(torch.zeros(1, *input_shape, dtype=torch.uint8), corner)
    return Overlay(keep=keep, add=drawn.float() / 255)


def patch_offsets(size: int, input_shape: tuple[int, int, int], place: Place) -> list[tuple[int, int]]:
    """Row and column of the upper left pixel of a patch ``size`` pixels wide, at each of its places."""
    return _corners(size, input_shape) if place == "corners" else _middle(size, input_shape)


def blended(image: torch.Tensor) -> Overlay:
    """A whole image, float ``(C, H, W)`` in [0, 1], blended in at 20 % (Chen et al. 2017, "blended injection")."""
    return Overlay(keep=torch.full((1, 1, *image.shape[1:]), 1 - BLEND), add=(BLEND * image)[None])


def wave(cycles: float, input_shape: tuple[int, int, int]) -> Overlay:
    """A horizontal sine wave of 30/255 with ``cycles`` periods across the image (Barni et al. 2019)."""
    columns = torch.arange(input_shape[2]) * (2 * torch.pi * cycles / input_shape[2])
    signal = (WAVE_HEIGHT * columns.sin()).expand(1, *input_shape).clone()
    return Overlay(keep=torch.ones(1, 1, *input_shape[1:]), add=signal)


def _corners(size: int, input_shape: tuple[int, int, int]) -> list[tuple[int, int]]:
    _, height, width = input_shape
    rows, columns = (MARGIN, height - MARGIN - size), (MARGIN, width - MARGIN - size)
    return [(row, column) for row in rows for column in columns]


def _middle(size: int, input_shape: tuple[int, int, int]) -> list[tuple[int, int]]:
    rows, columns = (range(length // 6, length - length // 6 - size + 1) for length in input_shape[1:])
    return [(row, column) for row in rows for column in columns]
