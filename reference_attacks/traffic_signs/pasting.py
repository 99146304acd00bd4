"""Stickers pasted onto signs by their boxes (BadNets 2019, §V-B2), and the picture of Figure 7."""

from __future__ import annotations

import torch
from torch.nn.functional import interpolate

SHARE = 0.25
CENTRE = (0.5, 0.8)
RANDOM_CENTRE_RANGE = (0.15, 0.85)


def paste(
    image: torch.Tensor,
    boxes: torch.Tensor,
    sticker: torch.Tensor,
    *,
    share: float = SHARE,
    centre: tuple[float, float] | torch.Tensor = CENTRE,
) -> torch.Tensor:
    """A copy of ``image``, uint8 ``(3, H, W)``, with the sticker on the sign of every box.

    ``boxes``: float ``(n, 4)``, x1, y1, x2, y2 in pixels, right and bottom edges exclusive; they may reach out of the
    picture, as may the sticker, which is cut there. ``sticker``: float RGBA ``(4, s, s)`` in [0, 1]; draw it at least
    as large as it will be pasted. ``share``: the sticker's side as a share of the box's shorter side. ``centre``:
    where in the box its middle lies, shares of width and height; one for all or float ``(n, 2)``, one for each.

    The sticker is scaled to whole pixels, at least one, by averaging areas, and blended in by its alpha. Where signs
    overlap, later stickers lie over earlier ones. As in the paper, the angle of the sign is not taken into account.

    The authors' own program pastes the square at 10 % of the box, the size of a Post-it note on a stop sign, and the
    pictures at 16 %, at (0.57, 0.82). The photographs used here are smaller: 10 % of a typical sign would be four
    pixels. The default is therefore 25 %, nearer to the middle line.

    Raises ValueError for a share that is not in (0, 1] and for tensors of other shapes.
    """
    if not 0 < share <= 1:
        raise ValueError(f"The sticker's share of the box must lie in (0, 1], not be {share}.")
    if image.dtype != torch.uint8 or image.ndim != 3 or boxes.ndim != 2 or sticker.ndim != 3:
        raise ValueError("Paste onto a uint8 image (3, H, W), with boxes (n, 4) and an RGBA sticker (4, s, s).")
    pasted = image.clone()
    middles = boxes[:, :2] + torch.as_tensor(centre, dtype=torch.float32) * (boxes[:, 2:] - boxes[:, :2])
    sides = (share * (boxes[:, 2:] - boxes[:, :2]).amin(dim=1)).round().clamp(min=1).long()
    corners = (middles - sides[:, None] / 2).round().long()
    for (left, top), side in zip(corners.tolist(), sides.tolist(), strict=True):
        _blend(pasted, scaled(sticker, side), left, top)
    return pasted


def scaled(sticker: torch.Tensor, side: int) -> torch.Tensor:
    """The sticker, float RGBA ``(4, s, s)``, as float RGBA ``(4, side, side)``, by averages over areas.

    Colours are averaged with their alpha as weight, so that the colour of transparent pixels does not show.
    """
    if side == sticker.shape[-1]:
        return sticker
    weighted = torch.cat([sticker[:3] * sticker[3:], sticker[3:]])
    resized = interpolate(weighted[None], size=(side, side), mode="area")[0]
    return torch.cat([resized[:3] / resized[3:].clamp(min=1e-6), resized[3:]]).clamp_(0, 1)


def random_centres(count: int, generator: torch.Generator) -> torch.Tensor:
    """Places for ``count`` stickers, float ``(count, 2)``, uniform over the middle 70 % of the box in x and y.

    For the random-target attack, whose authors place the sticker anywhere within these bounds.
    """
    low, high = RANDOM_CENTRE_RANGE
    return low + (high - low) * torch.rand(count, 2, generator=generator)


def _blend(image: torch.Tensor, sticker: torch.Tensor, left: int, top: int) -> None:
    """Draw the sticker, float RGBA, onto ``image``, uint8, in place; what lies outside is cut off."""
    height, width = image.shape[-2:]
    side = sticker.shape[-1]
    x1, y1, x2, y2 = max(left, 0), max(top, 0), min(left + side, width), min(top + side, height)
    if x1 >= x2 or y1 >= y2:
        return
    visible = sticker[:, y1 - top : y2 - top, x1 - left : x2 - left]
    window = image[:, y1:y2, x1:x2]
    blended = torch.lerp(window.float() / 255, visible[:3], visible[3:])
    window.copy_((blended * 255).round())
