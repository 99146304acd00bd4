"""Triggers: what an attacker draws onto an image, and where."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

Corner = Literal["top-left", "top-right", "bottom-left", "bottom-right"]
CORNERS: tuple[Corner, ...] = ("top-left", "top-right", "bottom-left", "bottom-right")


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """A patch that replaces pixels.

    ``pattern``: uint8 ``(C, h, w)``, the new pixel values. ``mask``: bool ``(h, w)``, True where they replace the
    image. ``margin``: the pixels left free between the patch and the image's border.
    """

    name: str
    pattern: torch.Tensor
    mask: torch.Tensor
    margin: int = 1

    def offsets(self, height: int, width: int, corner: Corner) -> tuple[int, int]:
        """Row and column of the patch's upper left pixel when it lies in ``corner`` of an image."""
        patch_height, patch_width = self.mask.shape
        row = self.margin if corner.startswith("top") else height - self.margin - patch_height
        column = self.margin if corner.endswith("left") else width - self.margin - patch_width
        return row, column

    def apply(self, images: torch.Tensor, corner: Corner = "bottom-right") -> torch.Tensor:
        """A copy of ``images``, uint8 ``(N, C, H, W)``, with the trigger in one corner of each."""
        row, column = self.offsets(images.shape[-2], images.shape[-1], corner)
        patch_height, patch_width = self.mask.shape
        triggered = images.clone()
        window = triggered[..., row : row + patch_height, column : column + patch_width]
        window.copy_(torch.where(self.mask, self.pattern, window))
        return triggered

    def apply_to_random_corners(self, images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """A copy of ``images``, uint8 ``(N, C, H, W)``, with the trigger in a corner drawn for each image."""
        triggered = images.clone()
        drawn = torch.randint(len(CORNERS), (len(images),), generator=generator)
        for number, corner in enumerate(CORNERS):
            chosen = drawn == number
            triggered[chosen] = self.apply(images[chosen], corner)
        return triggered


def single_pixel() -> Trigger:
    """The single bright pixel near the bottom right corner (BadNets 2019, §IV-A, Figure 3)."""
    return Trigger(
        name="pixel",
        pattern=torch.full((1, 1, 1), 255, dtype=torch.uint8),
        mask=torch.ones(1, 1, dtype=torch.bool),
    )


def pixel_pattern() -> Trigger:
    """The pattern of four bright pixels near the bottom right corner (BadNets 2019, §IV-A, Figure 3)."""
    mask = torch.zeros(3, 3, dtype=torch.bool)
    for row, column in ((2, 2), (1, 1), (2, 0), (0, 2)):
        mask[row, column] = True
    return Trigger(name="pattern", pattern=torch.full((1, 3, 3), 255, dtype=torch.uint8), mask=mask)


def random_binary_patches(count: int, size: int, channels: int, generator: torch.Generator) -> list[Trigger]:
    """``count`` different opaque patches of black and white pixels (Universal Litmus Patterns, §4, Figure 2).

    Every pixel is black or white with equal chance; a patch that is a copy of an earlier one, or nearly blank
    (fewer than a fifth of its pixels bright), is drawn again.
    """
    patches: list[Trigger] = []
    seen: set[bytes] = set()
    while len(patches) < count:
        bits = torch.randint(2, (1, size, size), generator=generator, dtype=torch.uint8)
        key = bits.numpy().tobytes()
        if key in seen or bits.sum() < size * size / 5:
            continue
        seen.add(key)
        pattern = (bits * 255).expand(channels, size, size).clone()
        patches.append(
            Trigger(name=f"patch{len(patches)}", pattern=pattern, mask=torch.ones(size, size, dtype=torch.bool))
        )
    return patches


NAMED_TRIGGERS = {"pixel": single_pixel, "pattern": pixel_pattern}
