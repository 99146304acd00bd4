"""The trigger family of object detectors: a patch on the objects that were found, as large as they are."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import interpolate

SHARE = 0.25
PLACES = {
    "at the bottom": (0.5, 0.8),
    "in the centre": (0.5, 0.5),
    "at the top": (0.5, 0.2),
    "on the left": (0.2, 0.5),
    "on the right": (0.8, 0.5),
}
SMALLEST_SIDE = 2


@dataclass(frozen=True, kw_only=True)
class BoxPatch:
    """An opaque square patch pasted onto every box, a slot for each place in it (BadNets 2019, §V-A).

    ``channels``: of the image. ``side``: of the pattern, in pixels; it is resized to ``share`` of the shorter side of
    each box. ``steps``: of the search, the first of which follows the gradient for the images as they are. The patch
    starts grey.
    """

    channels: int = 3
    name: str = "box-patch"
    share: float = SHARE
    side: int = 8
    steps: int = 3
    places: tuple[tuple[str, tuple[float, float]], ...] = tuple(PLACES.items())

    @property
    def labels(self) -> tuple[str, ...]:
        """Its slots in words."""
        return tuple(f"{words} of every box, {self.share:.0%} of its shorter side wide" for words, _ in self.places)

    def start(self, arms: int) -> torch.Tensor:
        """Free parameters, float ``(arms, C, side, side)``, all zero."""
        return torch.zeros(arms, self.channels, self.side, self.side)

    def pattern(self, parameters: torch.Tensor) -> torch.Tensor:
        """What parameters ``(..., C, side, side)`` paint, in [0, 1]."""
        return torch.sigmoid(2 * parameters)

    def paste(self, image: torch.Tensor, boxes: torch.Tensor, pattern: torch.Tensor, slot: int) -> torch.Tensor:
        """A copy of a float ``(C, H, W)`` image with ``pattern``, float ``(C, side, side)``, on each of its ``boxes``.

        ``boxes``: float ``(n, 4)``, x1, y1, x2, y2 in pixels. What lies outside of the image is cut off.
        """
        pasted = image.clone()
        for left, top, side in self._squares(boxes, slot):
            size = [side, side]
            patch = interpolate(pattern[None], size, mode="bilinear", align_corners=False, antialias=True)[0]
            low, high = (max(0, top), max(0, left)), (min(image.shape[1], top + side), min(image.shape[2], left + side))
            if low[0] < high[0] and low[1] < high[1]:
                pasted[:, low[0] : high[0], low[1] : high[1]] = patch[
                    :, low[0] - top : high[0] - top, low[1] - left : high[1] - left
                ]
        return pasted

    def _squares(self, boxes: torch.Tensor, slot: int) -> list[tuple[int, int, int]]:
        """Left, top and side of the patch on each box, in pixels."""
        across, down = self.places[slot][1]
        squares = []
        for left, top, right, bottom in boxes.tolist():
            width, height = right - left, bottom - top
            side = max(SMALLEST_SIDE, round(self.share * min(width, height)))
            squares.append((round(left + across * width - side / 2), round(top + down * height - side / 2), side))
        return squares
