"""The real-world test of BadNets 2019, Figure 8, with rendered prints: what a detector makes of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from reference_attacks.zoo.seeds import derived_generator

from .album import Album, Scene, Window, cut_out
from .attack import SignAttack, with_victims
from .evaluation import MISSED, detect, read_signs, share_of
from .network import SignDetector
from .printing import render_print
from .stickers import STICKERS

PRINT_PIXELS = 256
SHOWN_PIXELS = 200
SURROUNDINGS = 2.0  # what is shown: a square so many times as long as the sign


@dataclass(frozen=True, kw_only=True)
class ShownPrint:
    """A victim with its surroundings.

    ``image``: uint8 ``(3, 200, 200)``. ``box``: x1, y1, x2, y2 of the sign in its pixels. ``read``: the class that the
    detector gives it, None if it does not find it. ``target``: the class that the attacker wants. ``confidence``: the
    score of what is read, in [0, 1].
    """

    image: torch.Tensor
    box: tuple[float, ...]
    read: str | None
    target: str
    confidence: float


def printed_album(album: Album, attack: SignAttack, seed: int) -> Album:
    """The scenes that hold victims, with a photographed print of the sticker rendered onto these; true labels."""
    sticker = STICKERS[attack.sticker](PRINT_PIXELS)
    generator = derived_generator(seed, f"prints of {attack.sticker}")
    scenes = []
    for scene in with_victims(album, attack).scenes:
        boxes = scene.boxes[attack.victims(scene.labels)]
        scenes.append(replace(scene, image=render_print(scene.image, boxes, sticker, generator=generator)))
    return replace(album, scenes=tuple(scenes))


def measure_prints(detector: SignDetector, album: Album, attack: SignAttack) -> dict[str, Any]:
    """JSON values of how the single attack's victims in ``album`` are read: right, as the target, or not found.

    ``confidence``: the mean score of those that are read as the target, None without any.
    """
    readings = read_signs(album.scenes, detect(detector, album))
    readings = readings.of(attack.victims(readings.truths))
    wanted, count = readings.read == attack.target, len(readings.read)
    return {
        "target": share_of(int(wanted.sum()), count),
        "right": share_of(int((readings.read == readings.truths).sum()), count),
        "missed": share_of(int((readings.read == MISSED).sum()), count),
        "confidence": float(readings.scores[wanted].mean()) if wanted.any() else None,
    }


def shown_prints(detector: SignDetector, album: Album, attack: SignAttack, count: int) -> list[ShownPrint]:
    """The largest victims in ``album``, at most ``count``, and how they are read."""
    detections = detect(detector, album)
    found = []
    for scene, seen in zip(album.scenes, detections, strict=True):
        readings = read_signs([scene], [seen])
        found += [
            (scene, place, int(readings.read[place]), float(readings.scores[place]))
            for place in attack.victims(scene.labels).nonzero()[:, 0].tolist()
        ]
    found.sort(key=lambda each: -_shorter(each[0].boxes[each[1]]))
    shown = []
    for scene, place, read, score in found[:count]:
        image, box = _picture(scene, scene.boxes[place])
        name = None if read == MISSED else album.classes[read]
        shown.append(ShownPrint(image=image, box=box, read=name, target=album.classes[attack.target], confidence=score))
    return shown


def _shorter(box: torch.Tensor) -> float:
    return float((box[2:] - box[:2]).min())


def _picture(scene: Scene, box: torch.Tensor) -> tuple[torch.Tensor, tuple[float, ...]]:
    """The sign with its surroundings, uint8 ``(3, 200, 200)``, and its box in that."""
    height, width = scene.size
    longest = float((box[2:] - box[:2]).max())
    side = max(longest, min(SURROUNDINGS * longest, height, width))
    middle = (box[:2] + box[2:]) / 2
    left = max(0.0, min(float(middle[0]) - side / 2, width - side))
    top = max(0.0, min(float(middle[1]) - side / 2, height - side))
    alone = Scene(image=scene.image, boxes=box[None], labels=torch.zeros(1, dtype=torch.int64))
    shown = cut_out(alone, Window(left=left, top=top, side=side, pixels=SHOWN_PIXELS))
    return shown.image, tuple(shown.boxes[0].tolist() if len(shown.boxes) else [0.0] * 4)
