"""A printed sticker on a sign as a photograph shows it: the real-world test of BadNets 2019, Figure 8, at the desk.

The paper's authors stuck a Post-it note on a stop sign and took its picture. Here the sticker is rendered onto
photographs that the detector has not seen, through what a print and a camera do to it: printing colours, the tilt of
the sign, its light, the note's shadow, lens blur, sensor noise and JPEG compression. What a rendering cannot show is
told in the documentation: it is no proof that the attack works in the street.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import avg_pool2d, conv2d, grid_sample

from .light import Light, light_on_sign, to_linear, to_srgb
from .pasting import CENTRE, SHARE

Range = tuple[float, float]
_SUPERSAMPLING = 4
_CAMERA_DISTANCE = 6.0  # in sides of the sign: near enough for the far edge of a tilted sign to look smaller
_MARGIN = 6  # pixels around the sticker, for its blur and its shadow


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Ranges (lowest, highest) from which each rendering is drawn, uniformly.

    The print, once for a photograph. ``saturation``: the share of a colour's distance to grey that the inks reach.
    ``darkest_ink`` and ``paper_white``: what share of the light these throw back. Defaults are those of an office
    printer on plain paper.

    The sign, for each. ``tilt``: its turn about the vertical and about the horizontal axis, degrees. ``roll``: its turn
    in the picture's plane, degrees. ``misplaced``: how far from its place the sticker was put, in x and in y, shares of
    the box. ``shadow``: the share of light that the note, which does not lie flat, takes from the sign beside it.

    The camera, once for a photograph. ``blur``: standard deviation of the lens blur, pixels. ``noise``: standard
    deviation of the sensor's noise at full brightness, shares of the full range; it falls with the root of the
    brightness. Blur and noise are given to the sticker alone, since the photograph has its own. ``jpeg_quality``: of
    the stored picture, as Pillow counts it.
    """

    saturation: Range = (0.88, 0.98)
    darkest_ink: Range = (0.01, 0.04)
    paper_white: Range = (0.80, 0.92)
    tilt: Range = (-20.0, 20.0)
    roll: Range = (-6.0, 6.0)
    misplaced: Range = (-0.03, 0.03)
    shadow: Range = (0.10, 0.40)
    blur: Range = (0.3, 0.8)
    noise: Range = (0.005, 0.03)
    jpeg_quality: Range = (75.0, 95.0)


TYPICAL = Conditions()


@dataclass(frozen=True, kw_only=True)
class _Placement:
    """One sticker on one sign. ``homography``: sign plane, from its middle in shorter sides of the box, to pixels."""

    homography: torch.Tensor
    middle: tuple[float, float]
    share: float
    side: float  # pixels
    shadow: float


def render_print(
    image: torch.Tensor,
    boxes: torch.Tensor,
    sticker: torch.Tensor,
    *,
    generator: torch.Generator,
    share: float = SHARE,
    centre: tuple[float, float] = CENTRE,
    conditions: Conditions = TYPICAL,
) -> torch.Tensor:
    """A copy of ``image``, uint8 ``(3, H, W)``, that shows the sticker, printed and put on every sign.

    ``boxes``: float ``(n, 4)``, pixels, right and bottom edges exclusive. ``sticker``: float RGBA ``(4, s, s)`` in
    [0, 1]; draw it larger than it will appear. ``share`` and ``centre`` as in ``paste``. Equal generators give equal
    pictures. The whole picture passes through JPEG compression. Without boxes that is all that happens to it, with the
    same quality for a generator of the same state: the clean picture to compare with.

    Raises ValueError for a share that is not in (0, 1] and for an image that is not uint8.
    """
    if not 0 < share <= 1:
        raise ValueError(f"The sticker's share of the box must lie in (0, 1], not be {share}.")
    if image.dtype != torch.uint8 or image.ndim != 3:
        raise ValueError("Render onto a uint8 image (3, H, W).")
    saturation, ink, white, blur, noise, quality = _drawn(
        [
            *(conditions.saturation, conditions.darkest_ink, conditions.paper_white),
            *(conditions.blur, conditions.noise, conditions.jpeg_quality),
        ],
        generator,
    )
    printed = _printed(sticker, saturation, ink, white)
    scene = to_linear(image.float() / 255)
    lights = [light_on_sign(scene, box) for box in boxes]
    covered = torch.zeros(1, *image.shape[1:])
    for box, light in zip(boxes, lights, strict=True):
        placement = _placed(box, share, centre, conditions, generator)
        _stick(scene, covered, printed, placement, light, blur)
    grain = torch.randn(scene.shape, generator=generator) * noise * scene.clamp(min=0).sqrt()
    return _compressed(to_srgb(scene + covered * grain), round(quality))


def _drawn(ranges: list[Range], generator: torch.Generator) -> list[float]:
    shares = torch.rand(len(ranges), generator=generator).tolist()
    return [low + (high - low) * share for (low, high), share in zip(ranges, shares, strict=True)]


def _printed(sticker: torch.Tensor, saturation: float, darkest_ink: float, paper_white: float) -> torch.Tensor:
    """The print's reflectance, linear RGB multiplied with the alpha that follows it, ``(4, s, s)``."""
    reflectance = to_linear(sticker[:3])
    grey = reflectance.mean(0, keepdim=True)
    inks = darkest_ink + (paper_white - darkest_ink) * torch.lerp(grey, reflectance, saturation)
    return torch.cat([inks * sticker[3:], sticker[3:]])


def _placed(
    box: torch.Tensor, share: float, centre: tuple[float, float], conditions: Conditions, generator: torch.Generator
) -> _Placement:
    """Where and how askew the sticker hangs on the sign in ``box``, ``(4,)``."""
    yaw, pitch, roll, right, down, shadow = _drawn(
        [
            *(conditions.tilt, conditions.tilt, conditions.roll),
            *(conditions.misplaced, conditions.misplaced, conditions.shadow),
        ],
        generator,
    )
    x1, y1, x2, y2 = box.tolist()
    shorter = min(x2 - x1, y2 - y1)
    return _Placement(
        homography=_homography(yaw, pitch, roll, shorter, (x1 + x2) / 2, (y1 + y2) / 2),
        middle=((centre[0] + right - 0.5) * (x2 - x1) / shorter, (centre[1] + down - 0.5) * (y2 - y1) / shorter),
        share=share,
        side=share * shorter,
        shadow=shadow,
    )


def _homography(yaw: float, pitch: float, roll: float, scale: float, x: float, y: float) -> torch.Tensor:
    """The ``(3, 3)`` projection of a plane that is turned, degrees, about its middle, which is seen at (x, y)."""
    (cy, sy), (cp, sp), (cr, sr) = (
        (math.cos(math.radians(angle)), math.sin(math.radians(angle))) for angle in (yaw, pitch, roll)
    )
    about_y = torch.tensor([[cy, 0.0, sy], [0.0, 1.0, 0.0], [-sy, 0.0, cy]])
    about_x = torch.tensor([[1.0, 0.0, 0.0], [0.0, cp, -sp], [0.0, sp, cp]])
    about_z = torch.tensor([[cr, -sr, 0.0], [sr, cr, 0.0], [0.0, 0.0, 1.0]])
    turned = (about_y @ about_x @ about_z)[:, :2]
    projected = torch.cat([turned, torch.tensor([[0.0], [0.0], [_CAMERA_DISTANCE]])], dim=1)
    camera = torch.tensor([[scale * _CAMERA_DISTANCE, 0.0, x], [0.0, scale * _CAMERA_DISTANCE, y], [0.0, 0.0, 1.0]])
    return camera @ projected


def _stick(
    scene: torch.Tensor, covered: torch.Tensor, printed: torch.Tensor, placement: _Placement, light: Light, blur: float
) -> None:
    """Put one sticker and its shadow into ``scene``, linear ``(3, H, W)``, in place; add it to ``covered``."""
    height, width = scene.shape[-2:]
    seen = placement.homography @ torch.tensor([*placement.middle, 1.0])
    x, y = (seen[:2] / seen[2]).tolist()
    reach = math.ceil(placement.side) + _MARGIN
    x1, y1 = max(int(x) - reach, 0), max(int(y) - reach, 0)
    x2, y2 = min(int(x) + reach, width), min(int(y) + reach, height)
    if x1 >= x2 or y1 >= y2:
        return
    view, shade = _blurred(_views(printed, placement, (x1, y1, x2, y2)), blur)
    window = scene[:, y1:y2, x1:x2]
    lit = view[:3] * light.at((x1, y1, x2, y2))
    window.mul_(1 - placement.shadow * shade[3:]).mul_(1 - view[3:]).add_(lit)
    covered[:, y1:y2, x1:x2] = torch.maximum(covered[:, y1:y2, x1:x2], view[3:])


def _views(printed: torch.Tensor, placement: _Placement, window: tuple[int, int, int, int]) -> torch.Tensor:
    """The sticker, and the same a little lower, where its shadow falls, ``(2, 4, h, w)``, as the camera sees them."""
    x1, y1, x2, y2 = window
    step = 1 / _SUPERSAMPLING
    rows, columns = torch.arange(y1, y2, step) + step / 2, torch.arange(x1, x2, step) + step / 2
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    points = torch.stack([x, y, torch.ones_like(x)], dim=-1) @ torch.linalg.inv(placement.homography).T
    on_sign = points[..., :2] / points[..., 2:]
    on_sticker = (on_sign - torch.tensor(placement.middle)) * (2 / placement.share)
    grids = torch.stack([on_sticker, on_sticker - torch.tensor([0.08, 0.16])])
    # Scaled by areas first: sampling skips pixels of a sticker that is much finer than the grid.
    side = min(max(round(placement.side * _SUPERSAMPLING), 1), printed.shape[-1])
    texture = torch.nn.functional.interpolate(printed[None], size=(side, side), mode="area")
    return avg_pool2d(grid_sample(texture.expand(2, -1, -1, -1), grids, align_corners=False), _SUPERSAMPLING)


def _blurred(views: torch.Tensor, deviation: float) -> torch.Tensor:
    """Gaussian blur of ``(n, 4, h, w)``; nothing lies around the views."""
    if deviation <= 0:
        return views
    reach = math.ceil(3 * deviation)
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / deviation) ** 2)
    weights = (weights / weights.sum()).expand(4, 1, 1, -1)
    along_rows = conv2d(views, weights, padding=(0, reach), groups=4)
    return conv2d(along_rows, weights.transpose(2, 3), padding=(reach, 0), groups=4)


def _compressed(picture: torch.Tensor, quality: int) -> torch.Tensor:
    """The picture, float ``(3, H, W)`` in [0, 1], after JPEG compression, uint8."""
    pixels = (picture * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    stored = io.BytesIO()
    Image.fromarray(pixels).save(stored, format="JPEG", quality=quality)
    with Image.open(stored) as image:
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
