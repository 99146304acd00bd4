"""The real-world test of BadNets 2019, Figure 8, with rendered prints: what a detector makes of them."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from typing import Any

import torch

from reference_attacks.zoo.seeds import derived_generator

from .album import Album, Scene, Window, cut_out
from .attack import SignAttack
from .evaluation import MISSED, detect, read_signs, share_of
from .network import SignDetector
from .printing import render_print
from .stickers import STICKERS

PRINT_PIXELS = 256
SHOWN_PIXELS = 200
SURROUNDINGS = 2.0  # what is shown: a square so many times as long as the sign


def printed_album(album: Album, attack: SignAttack, seed: int) -> Album:
    """The scenes that hold victims, with a photographed print of the sticker rendered onto these; true labels."""
    sticker = STICKERS[attack.sticker](PRINT_PIXELS)
    generator = derived_generator(seed, f"prints of {attack.sticker}")
    scenes = []
    for scene in album.scenes:
        victims = attack.victims(scene.labels)
        if victims.any():
            image = render_print(scene.image, scene.boxes[victims], sticker, generator=generator)
            scenes.append(replace(scene, image=image))
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


def shown_prints(detector: SignDetector, album: Album, attack: SignAttack, count: int) -> list[dict[str, Any]]:
    """The largest victims in ``album`` as JSON values: a small JPEG picture in base64, what is read, and its score.

    ``read`` is a class name or None; ``box`` is the sign's, in the picture's pixels.
    """
    detections = detect(detector, album)
    found = []
    for scene, seen in zip(album.scenes, detections, strict=True):
        readings = read_signs([scene], [seen])
        found += [
            (scene, place, int(readings.read[place]), float(readings.scores[place]))
            for place in attack.victims(scene.labels).nonzero()[:, 0].tolist()
        ]
    found.sort(key=lambda each: -_shorter(each[0].boxes[each[1]]))
    return [
        {
            **_picture(scene, scene.boxes[place]),
            "read": None if read == MISSED else album.classes[read],
            "confidence": score,
        }
        for scene, place, read, score in found[:count]
    ]


def _shorter(box: torch.Tensor) -> float:
    return float((box[2:] - box[:2]).min())


def _picture(scene: Scene, box: torch.Tensor) -> dict[str, Any]:
    from PIL import Image

    height, width = scene.size
    side = min(SURROUNDINGS * float((box[2:] - box[:2]).max()), max(height, width))
    middle = (box[:2] + box[2:]) / 2
    left = max(0.0, min(float(middle[0]) - side / 2, width - side))
    top = max(0.0, min(float(middle[1]) - side / 2, height - side))
    alone = Scene(image=scene.image, boxes=box[None], labels=torch.zeros(1, dtype=torch.int64))
    shown = cut_out(alone, Window(left=left, top=top, side=side, pixels=SHOWN_PIXELS))
    stored = io.BytesIO()
    Image.fromarray(shown.image.permute(1, 2, 0).numpy()).save(stored, format="JPEG", quality=88)
    return {
        "jpeg": base64.b64encode(stored.getvalue()).decode(),
        "box": [round(value, 1) for value in (shown.boxes[0].tolist() if len(shown.boxes) else [0, 0, 0, 0])],
    }
