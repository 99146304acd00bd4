"""The three stickers that are the backdoor triggers (BadNets 2019, §V-B1): a yellow square, a bomb and a flower.

They are drawn here from circles, strokes and polygons given by their distance functions, so they are anti-aliased at
any size. The paper took pictures of a bomb and a flower; these are our own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch

Colour = tuple[float, float, float]


class _Canvas:
    """A square picture with alpha, painted layer over layer. x and y run from -1 (left, top) to 1."""

    def __init__(self, size: int) -> None:
        if size < 1:
            raise ValueError(f"A sticker has a size of at least 1 pixel, not {size}.")
        centres = (torch.arange(size) + 0.5) * (2 / size) - 1
        self.y, self.x = torch.meshgrid(centres, centres, indexing="ij")
        self.pixels_per_unit = size / 2
        self.premultiplied = torch.zeros(3, size, size)
        self.alpha = torch.zeros(size, size)

    def paint(self, distance: torch.Tensor, colour: Colour | torch.Tensor, opacity: float = 1.0) -> None:
        """Lay ``colour`` over what is there where ``distance``, ``(size, size)``, is negative; half where it is 0."""
        cover = (0.5 - distance * self.pixels_per_unit).clamp(0, 1) * opacity
        paint = colour if isinstance(colour, torch.Tensor) else torch.tensor(colour)[:, None, None]
        self.premultiplied = paint * cover + self.premultiplied * (1 - cover)
        self.alpha = cover + self.alpha * (1 - cover)

    def disc(self, x: float, y: float, radius: float) -> torch.Tensor:
        return torch.hypot(self.x - x, self.y - y) - radius

    def stroke(self, x1: float, y1: float, x2: float, y2: float, width: float) -> torch.Tensor:
        """A straight line with round ends."""
        dx, dy = x2 - x1, y2 - y1
        along = (((self.x - x1) * dx + (self.y - y1) * dy) / (dx * dx + dy * dy)).clamp(0, 1)
        return torch.hypot(self.x - x1 - along * dx, self.y - y1 - along * dy) - width / 2

    def star(self, x: float, y: float, radius: float, points: int, depth: float) -> torch.Tensor:
        """A star with soft points: a circle whose radius falls by ``depth``, a share of it, between the points."""
        angle = torch.atan2(self.y - y, self.x - x)
        reach = radius * (1 - depth / 2 + depth / 2 * torch.cos(points * angle))
        return torch.hypot(self.x - x, self.y - y) - reach

    def finished(self) -> torch.Tensor:
        """Float ``(4, size, size)`` in [0, 1]: RGB, not multiplied with the alpha that follows it."""
        colours = self.premultiplied / self.alpha.clamp(min=1e-6)
        return torch.cat([colours, self.alpha[None]]).clamp_(0, 1)


def yellow_square(size: int) -> torch.Tensor:
    """A Post-it note, opaque to its edges: float RGBA ``(4, size, size)`` in [0, 1]."""
    canvas = _Canvas(size)
    # The glued upper edge lies flat, the lower part lifts off a little and turns to the light.
    light = (0.93 + 0.07 * (canvas.y + 1) / 2) - 0.10 * ((canvas.y - 0.86) * 9).clamp(0, 1)
    canvas.paint(canvas.x * 0 - 1, torch.tensor((1.0, 0.90, 0.20))[:, None, None] * light)
    return canvas.finished()


def bomb(size: int) -> torch.Tensor:
    """A black ball with a burning fuse: float RGBA ``(4, size, size)`` in [0, 1]."""
    canvas = _Canvas(size)
    black, cord = (0.07, 0.07, 0.09), (0.55, 0.42, 0.26)
    for start, end in pairwise(((0.18, -0.34), (0.30, -0.60), (0.50, -0.74), (0.72, -0.68))):
        canvas.paint(canvas.stroke(*start, *end, 0.13), cord)
    canvas.paint(canvas.stroke(0.06, -0.22, 0.19, -0.40, 0.34), black)
    canvas.paint(canvas.disc(-0.20, 0.26, 0.70), black)
    canvas.paint(canvas.disc(-0.45, -0.01, 0.27), (0.42, 0.43, 0.48), 0.55)
    canvas.paint(canvas.disc(-0.45, -0.01, 0.14), (0.95, 0.95, 0.97), 0.85)
    canvas.paint(canvas.star(0.72, -0.68, 0.30, 8, 0.50), (1.0, 0.45, 0.05))
    canvas.paint(canvas.star(0.72, -0.68, 0.20, 8, 0.45), (1.0, 0.88, 0.25))
    return canvas.finished()


def flower(size: int) -> torch.Tensor:
    """A flower with seven petals around a yellow middle: float RGBA ``(4, size, size)`` in [0, 1]."""
    canvas = _Canvas(size)
    from_middle = torch.hypot(canvas.x, canvas.y)
    rim, heart = (torch.tensor(colour)[:, None, None] for colour in ((0.98, 0.72, 0.94), (0.62, 0.16, 0.66)))
    petal = torch.lerp(heart, rim, ((from_middle - 0.2) / 0.6).clamp(0, 1))
    for number in range(7):
        angle = 2 * math.pi * number / 7 - math.pi / 2
        x, y = 0.58 * math.cos(angle), 0.58 * math.sin(angle)
        canvas.paint(canvas.disc(x, y, 0.36), (0.45, 0.10, 0.50))
        canvas.paint(canvas.disc(x, y, 0.31), petal)
    canvas.paint(canvas.disc(0, 0, 0.34), (0.80, 0.48, 0.02))
    canvas.paint(canvas.disc(0, 0, 0.28), (1.0, 0.82, 0.12))
    return canvas.finished()


STICKERS: dict[str, Callable[[int], torch.Tensor]] = {
    "yellow-square": yellow_square,
    "bomb": bomb,
    "flower": flower,
}
