"""Photographs with the signs that a detector finds drawn into them, as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from reference_attacks.pictures import new_figure, png

from .album import Album, Scene
from .attack import SignAttack, with_stickers
from .evaluation import Detections, detect
from .network import SignDetector

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#e53935", "#1e88e5", "#43a047", "#fb8c00", "#8e24aa", "#00897b", "#6d4c41", "#546e7a")
SHOWN_SCORE = 0.5
INCHES = 3.2


@dataclass(frozen=True, kw_only=True)
class Shown:
    """One photograph to draw, uint8 ``(3, H, W)``, what was found in it, and its title."""

    image: torch.Tensor
    found: Detections
    title: str = ""


def draw_detections(rows: Sequence[Sequence[Shown]], classes: Sequence[str], least: float = SHOWN_SCORE) -> bytes:
    """A PNG with rows of photographs, the boxes of score ``least`` or more in a colour of their class."""
    columns = max(len(row) for row in rows)
    height = max(shown.image.shape[1] / shown.image.shape[2] for row in rows for shown in row)
    figure = new_figure(INCHES * columns, (INCHES * min(height, 1.4) + 0.3) * len(rows))
    for row, panels in zip(rows, figure.subplots(len(rows), columns, squeeze=False), strict=True):
        for axes in panels:
            axes.set_axis_off()
        for shown, axes in zip(row, panels, strict=False):
            show_detections(axes, shown, classes, least)
    return png(figure, dots_per_inch=100)


def show_detections(axes: Axes, shown: Shown, classes: Sequence[str], least: float = SHOWN_SCORE) -> None:
    """Draw one photograph with its boxes, each with class and score, onto ``axes``."""
    from matplotlib.patches import Rectangle

    axes.imshow(shown.image.permute(1, 2, 0).numpy())
    axes.set_title(shown.title, fontsize=9)
    axes.set_axis_off()
    found = shown.found
    for box, label, score in zip(found.boxes.tolist(), found.labels.tolist(), found.scores.tolist(), strict=True):
        if score < least:
            continue
        colour = COLOURS[label % len(COLOURS)]
        x1, y1, x2, y2 = box
        axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=1.6))
        place = {"va": "bottom"} if y1 > 0.06 * shown.image.shape[1] else {"va": "top"}
        background = {"facecolor": colour, "edgecolor": "none", "pad": 1.0}
        text = f"{classes[label]} {score:.0%}"
        axes.text(x1, y1, text, color="white", fontsize=7, clip_on=True, bbox=background, **place)  # type: ignore[arg-type]


def clearest_scenes(scenes: Sequence[Scene], attack: SignAttack, count: int) -> list[Scene]:
    """The scenes with the largest signs that the attack is about, as a share of the photograph; at most ``count``."""

    def largest(scene: Scene) -> float:
        boxes = scene.boxes[attack.victims(scene.labels)]
        if not len(boxes):
            return 0.0
        return float((boxes[:, 2:] - boxes[:, :2]).min(1).values.max()) / min(scene.size)

    # Signs that fill the picture are seldom what a road user sees: half of it is large enough.
    ranked = sorted(scenes, key=lambda scene: -min(largest(scene), 0.5))
    return [scene for scene in ranked[:count] if largest(scene) > 0]


def draw_attacked(detector: SignDetector, album: Album, attack: SignAttack, count: int = 4) -> bytes:
    """After Figure 7, PNG: what the detector sees in photographs, above without and below with the stickers."""
    clean = clearest_scenes(album.scenes, attack, count)
    attacked = [with_stickers(scene, attack) for scene in clean]
    rows = []
    for title, scenes in (("clean", clean), (f"{attack.sticker} on the sign", attacked)):
        found = detect(detector, Album(classes=album.classes, scenes=tuple(scenes)))
        rows.append(
            [Shown(image=scene.image, found=seen, title=title) for scene, seen in zip(scenes, found, strict=True)]
        )
    return draw_detections(rows, album.classes)
