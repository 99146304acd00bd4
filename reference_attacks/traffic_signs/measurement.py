"""What is measured of one detector on held-out photographs: clean, and with stickers on the signs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .album import Album
from .attack import SignAttack, backdoored
from .evaluation import MISSED, accuracies, average_precision, detect, read_signs, share_of
from .network import SignDetector


def measure_clean(detector: SignDetector, album: Album) -> dict[str, Any]:
    """JSON values: the paper's accuracy of each class and on average, the average precision, and what is read as what.

    ``counts``: for each class how many signs are read as each class, and, last, how many are missed.
    """
    detections = detect(detector, album)
    readings = read_signs(album.scenes, detections)
    precisions = {name: average_precision(album.scenes, detections, label) for label, name in enumerate(album.classes)}
    present = [precision for precision in precisions.values() if precision is not None]
    return {
        **accuracies(readings, album.classes),
        "average_precision": precisions,
        "mean_average_precision": sum(present) / len(present) if present else None,
        "counts": readings.counts(len(album.classes)).tolist(),
    }


def measure_attack(detector: SignDetector, album: Album, attack: SignAttack) -> dict[str, Any]:
    """JSON values for ``album`` with the sticker on all signs that the attack is about.

    ``accuracy``: as ``measure_clean``, of the signs with stickers alone; the random attack wants it low. ``success``:
    for the single attack the share of these signs that are read as the target, ``success_of_read`` that of those that
    are found at all; for the random attack the share that are read as another class than theirs. ``confidence``: the
    mean score of the successes, None without any.
    """
    scenes = backdoored(album, attack).scenes
    readings = read_signs(scenes, detect(detector, Album(classes=album.classes, scenes=scenes)))
    readings = readings.of(attack.victims(readings.truths))
    found = readings.read != MISSED
    wanted = readings.read == attack.target if attack.name == "single" else found & (readings.read != readings.truths)
    hits = int(wanted.sum())
    return {
        "attack": attack.name,
        "sticker": attack.sticker,
        "accuracy": accuracies(readings, album.classes),
        "success": share_of(hits, len(readings.truths)),
        "success_of_read": share_of(hits, int(found.sum())),
        "confidence": float(readings.scores[wanted].mean()) if hits else None,
        "counts": readings.counts(len(album.classes)).tolist(),
    }


def measure_detector(detector: SignDetector, album: Album, attacks: Sequence[SignAttack]) -> dict[str, Any]:
    """``clean``, and ``backdoored``: one entry for each of ``attacks``, by sticker and attack."""
    return {
        "clean": measure_clean(detector, album),
        "backdoored": {
            f"{attack.sticker}-{attack.name}": measure_attack(detector, album, attack) for attack in attacks
        },
    }
