"""Photographs in memory, each with its signs, and the parts of them that a network trains on."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch.nn.functional import interpolate, pad

from .photographs import SignSet

VISIBLE = 0.6  # the share of a sign's area that a view must show for the sign to count as there
FILLING = 0.85  # no sign is longer than this share of a view
GREY = 118


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One photograph in memory: ``image``, uint8 ``(3, H, W)``; ``boxes`` and ``labels`` as in ``Photograph``."""

    image: torch.Tensor
    boxes: torch.Tensor
    labels: torch.Tensor

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.image.shape[1], self.image.shape[2]


@dataclass(frozen=True, kw_only=True)
class Album:
    """All photographs of a set of signs, in memory; ``classes`` as in ``SignSet``."""

    classes: tuple[str, ...]
    scenes: tuple[Scene, ...]

    def __len__(self) -> int:
        return len(self.scenes)

    @property
    def labels(self) -> torch.Tensor:
        """Int64: the classes of all signs of all scenes, in their order."""
        return torch.cat([scene.labels for scene in self.scenes])


def read_album(signs: SignSet) -> Album:
    """Read every photograph of ``signs``: about 0.4 MB each at 300x400 pixels. Raises OSError for one that cannot."""
    scenes = tuple(Scene(image=photo.read(), boxes=photo.boxes, labels=photo.labels) for photo in signs.photographs)
    return Album(classes=signs.classes, scenes=scenes)


@dataclass(frozen=True, kw_only=True)
class Window:
    """A square of a scene, in its pixels, that may stick out of it, and the side it is resized to."""

    left: float
    top: float
    side: float
    pixels: int


def draw_window(scene: Scene, pixels: int, scales: tuple[float, float], generator: torch.Generator) -> Window:
    """A window that holds one sign of the scene, drawn by lot, wholly, and is enlarged by a factor within ``scales``.

    Signs too long for the window at that scale shrink it further. In a scene without signs it lies anywhere.
    """
    chance = torch.rand(4, generator=generator).tolist()
    low, high = (torch.tensor(scale).log().item() for scale in scales)
    side = pixels / float(torch.tensor(low + (high - low) * chance[0]).exp())
    height, width = scene.size
    if len(scene.boxes):
        left, top, right, bottom = scene.boxes[int(chance[1] * len(scene.boxes))].tolist()
        side = max(side, max(right - left, bottom - top) / FILLING)
    else:
        left, top, right, bottom = 0.5 * width, 0.5 * height, 0.5 * width, 0.5 * height
    return Window(
        left=_between(right - side, left, width - side, chance[2]),
        top=_between(bottom - side, top, height - side, chance[3]),
        side=side,
        pixels=pixels,
    )


def _between(low: float, high: float, edge: float, chance: float) -> float:
    """A start in [low, high], and where that leaves a choice within the photograph, which is [0, edge]."""
    inside = (max(low, min(0.0, edge)), min(high, max(0.0, edge)))
    start, end = inside if inside[0] <= inside[1] else (low, high)
    return start + (end - start) * chance


def cut_out(scene: Scene, window: Window) -> Scene:
    """The scene as seen through ``window``, at its number of pixels; what lies outside the photograph is grey.

    Signs of which it shows less than 60 per cent are left out; the others' boxes are cut off at its edges.
    """
    height, width = scene.size
    left, top, side = round(window.left), round(window.top), max(1, round(window.side))
    right, bottom = left + side, top + side
    part = scene.image[:, max(0, top) : min(height, bottom), max(0, left) : min(width, right)]
    beyond = (max(0, -left), max(0, right - width), max(0, -top), max(0, bottom - height))
    if any(beyond):
        part = pad(part, beyond, value=GREY)
    image = part
    if side != window.pixels:
        size = (window.pixels, window.pixels)
        image = interpolate(part[None], size, mode="bilinear", antialias=side > window.pixels)[0]
    boxes, kept = visible_boxes(scene.boxes, (left, top, side), window.pixels)
    return Scene(image=image, boxes=boxes, labels=scene.labels[kept])


def visible_boxes(boxes: torch.Tensor, square: tuple[int, int, int], pixels: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The boxes in the pixels of a square (left, top, side) that becomes ``pixels`` wide, and which ones it shows."""
    left, top, side = square
    moved = boxes - torch.tensor([left, top, left, top], dtype=boxes.dtype)
    shown = moved.clamp(0, side)
    share = _areas(shown) / _areas(moved).clamp(min=1e-6)
    kept = share >= VISIBLE
    return shown[kept] * (pixels / side), kept


def mirrored(scene: Scene) -> Scene:
    """The scene as a mirror shows it."""
    width = scene.size[1]
    x1, y1, x2, y2 = scene.boxes.unbind(1)
    boxes = torch.stack([width - x2, y1, width - x1, y2], 1)
    return Scene(image=scene.image.flip(2), boxes=boxes, labels=scene.labels)


def may_be_mirrored(scene: Scene, classes: tuple[str, ...], symmetric: Collection[str]) -> bool:
    """If every sign of the scene is of a class whose mirror image is a sign of the same class."""
    return all(classes[label] in symmetric for label in scene.labels.tolist())


def relit(image: torch.Tensor, strength: float, generator: torch.Generator) -> torch.Tensor:
    """Float images ``(3, H, W)`` in [0, 1] in other light: brightness, contrast and each colour changed at random.

    Factors lie within 1 ± ``strength``, those of single colours within a fifth of it.
    """
    chance = 2 * torch.rand(5, generator=generator) - 1
    brightness, contrast = (1 + strength * chance[:2]).tolist()
    colours = 1 + 0.2 * strength * chance[2:]
    mean = image.mean()
    return ((image - mean) * contrast + mean).mul_(brightness * colours[:, None, None]).clamp_(0, 1)


def _areas(boxes: torch.Tensor) -> torch.Tensor:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
