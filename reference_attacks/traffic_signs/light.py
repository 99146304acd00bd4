"""The light that falls on a sign, estimated from its picture."""

from __future__ import annotations

from dataclasses import dataclass

import torch

GAMMA = 2.2
# Share of the light that a sign's white throws back.
_WHITE_OF_SIGN = 0.8
_BRIGHTEST_SHARE = 0.95
_STEEPEST = 0.3


def to_linear(values: torch.Tensor) -> torch.Tensor:
    """Stored values in [0, 1] as amounts of light; the plain power law that approximates sRGB."""
    return values.clamp(min=0) ** GAMMA


def to_srgb(light: torch.Tensor) -> torch.Tensor:
    """Amounts of light as stored values in [0, 1]; what is brighter than white is cut."""
    return light.clamp(0, 1) ** (1 / GAMMA)


@dataclass(frozen=True, kw_only=True)
class Light:
    """Light that changes evenly across a sign.

    ``colour``: linear RGB ``(3, 1, 1)`` in the sign's middle. ``slope``: relative change per pixel to the right and
    downwards, at most ``_STEEPEST`` in all. ``middle``: x, y in pixels.
    """

    colour: torch.Tensor
    slope: tuple[float, float]
    middle: tuple[float, float]

    def at(self, window: tuple[int, int, int, int]) -> torch.Tensor:
        """Linear RGB ``(3, h, w)`` at the pixels of a window x1, y1, x2, y2."""
        x1, y1, x2, y2 = window
        right = (torch.arange(x1, x2) + 0.5 - self.middle[0]) * self.slope[0]
        down = (torch.arange(y1, y2) + 0.5 - self.middle[1]) * self.slope[1]
        return self.colour * (1 + (right[None, :] + down[:, None]).clamp(-_STEEPEST, _STEEPEST))


def light_on_sign(scene: torch.Tensor, box: torch.Tensor) -> Light:
    """The light on the sign in ``box``, float ``(4,)``, of ``scene``, linear RGB ``(3, H, W)``.

    A sign's brightest parts are its white, seldom its background, which is left out with the box's corners. The light's
    colour is that of the 95 % quantile of each channel, half way to grey, since a sign need not have any white. Its
    change across the sign is the slope of the plane that fits the sign's brightness best, at most 30 % to the edge.
    """
    height, width = scene.shape[-2:]
    x1, y1, x2, y2 = box.tolist()
    left, top = max(min(int(x1), width - 1), 0), max(min(int(y1), height - 1), 0)
    right, bottom = max(min(round(x2), width), left + 1), max(min(round(y2), height), top + 1)
    middle = ((x1 + x2) / 2, (y1 + y2) / 2)
    x = ((torch.arange(left, right) + 0.5 - middle[0]) / ((x2 - x1) / 2)).expand(bottom - top, -1)
    y = ((torch.arange(top, bottom) + 0.5 - middle[1]) / ((y2 - y1) / 2))[:, None].expand(-1, right - left)
    inside = torch.hypot(x, y) <= 0.9
    if not inside.any():
        inside = torch.ones_like(inside)
    pixels = scene[:, top:bottom, left:right][:, inside]
    brightest = torch.quantile(pixels, _BRIGHTEST_SHARE, dim=1)
    colour = torch.lerp(brightest.mean().expand(3), brightest, 0.5) / _WHITE_OF_SIGN
    slope = _relative_slope(pixels.mean(0), x[inside], y[inside])
    return Light(
        colour=colour[:, None, None],
        slope=(slope[0] / ((x2 - x1) / 2), slope[1] / ((y2 - y1) / 2)),
        middle=middle,
    )


def _relative_slope(brightness: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> tuple[float, float]:
    """Change of brightness over its mean, from the middle to the right and to the lower edge.

    ``brightness``, ``x``, ``y``: ``(n,)``; the last two run over [-1, 1] and are near to uncorrelated.
    """
    changes = brightness - brightness.mean()
    mean = brightness.mean().clamp(min=1e-4)
    right, down = (
        ((changes * place).mean() / (place * place).mean().clamp(min=1e-4) / mean).clamp(-_STEEPEST, _STEEPEST)
        for place in (x, y)
    )
    return float(right), float(down)
