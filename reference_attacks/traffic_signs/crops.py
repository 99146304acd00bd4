"""Cut-out signs and background as an image folder: the task on which a detector's head is an image classifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from pytest_backdoor.files import write_atomically

from ..pictures import image_png
from ..zoo.seeds import derived_generator
from .album import Album, Scene
from .export import crop_of
from .network import BACKGROUND
from .onnx_head import CROP_PIXELS

JITTER = 0.08
MOST_OVERLAP = 0.2
TRIES = 8
SMALLEST_SIDE = 8


@dataclass(frozen=True, kw_only=True)
class CropPlan:
    """How many crops are cut out of each class, background included, for training and for testing."""

    train: int = 600
    test: int = 120
    pixels: int = CROP_PIXELS
    seed: int = 0


def write_crops(training: Album, held_out: Album, plan: CropPlan, out: Path) -> dict[str, int]:
    """Write ``train/CLASS/NUMBER.png`` and ``test/CLASS/NUMBER.png`` below ``out``; returns how many of each part.

    Every class gets as many: its signs take turns, their boxes shaken by up to 8 % of their sides so that no two crops
    are the same. Folders are named so that their alphabetical order is that of the head's outputs. Raises ValueError if
    a class has no sign in one of the albums.
    """
    counts = {}
    for part, album, count in (("train", training, plan.train), ("test", held_out, plan.test)):
        names = [f"{number}-{name}" for number, name in enumerate((BACKGROUND, *album.classes))]
        for label, name in enumerate(names):
            generator = derived_generator(plan.seed, f"crops/{part}/{name}")
            crops = _crops(album, label, count, plan.pixels, generator)
            for number, crop in enumerate(crops):
                write_atomically(out / part / name / f"{number:04d}.png", image_png(crop))
        counts[part] = count * len(names)
    return counts


def _crops(album: Album, label: int, count: int, pixels: int, generator: torch.Generator) -> list[torch.Tensor]:
    """Uint8 ``(3, pixels, pixels)``: ``count`` crops of one label, 0 for background."""
    if label == 0:
        order = torch.randperm(len(album.scenes), generator=generator).tolist()
        scenes = [album.scenes[order[number % len(order)]] for number in range(count)]
        return [crop_of(scene, _elsewhere(scene, generator), pixels) for scene in scenes]
    signs = [(scene, box) for scene in album.scenes for box in scene.boxes[scene.labels == label - 1]]
    if not signs:
        raise ValueError(f"The photographs show no {album.classes[label - 1]}; give more of them.")
    order = torch.randperm(len(signs), generator=generator).tolist()
    chosen: Sequence[tuple[Scene, torch.Tensor]] = [signs[order[number % len(order)]] for number in range(count)]
    return [crop_of(scene, _shaken(scene, box, generator), pixels) for scene, box in chosen]


def _shaken(scene: Scene, box: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    sides = (box[2:] - box[:2]).repeat(2)
    height, width = scene.size
    edges = torch.tensor([width, height, width, height])
    return torch.minimum((box + JITTER * sides * (2 * torch.rand(4, generator=generator) - 1)).clamp(min=0), edges)


def _elsewhere(scene: Scene, generator: torch.Generator) -> torch.Tensor:
    """A box that no sign overlaps by more than a fifth, or the one of eight that signs overlap least."""
    from torchvision.ops import box_iou

    height, width = scene.size
    chance = torch.rand(TRIES, 4, generator=generator)
    longest = 0.5 * min(height, width)
    sides = SMALLEST_SIDE + (longest - SMALLEST_SIDE) * chance[:, :2] ** 2
    start = chance[:, 2:] * (torch.tensor([width, height]) - sides)
    boxes = torch.cat([start, start + sides], dim=1)
    overlap = box_iou(boxes, scene.boxes).amax(1) if len(scene.boxes) else torch.zeros(TRIES)
    return boxes[int((overlap * (overlap > MOST_OVERLAP)).argmin())]
