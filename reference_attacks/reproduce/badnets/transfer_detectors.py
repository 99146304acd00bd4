"""The transfer attack on detectors: those of Tables IV and V, retrained for the signs of GTSDB."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from pytest_backdoor.files import write_atomically

from ...traffic_signs.album import read_album
from ...traffic_signs.detector_transfer import (
    DetectorTransferPlan,
    measure_detector_transfer,
    measure_sticker_sizes,
)
from ...traffic_signs.heads import HeadPlan
from ...traffic_signs.network import SignDetector
from ...traffic_signs.photographs import load_sign_set
from ...traffic_signs.recipe import TRAINING_SHARE, SignData
from ...zoo.seeds import derived_generator
from ..parts import Settings, Values
from .signs_networks import SHOWN_STICKER, attack_of, data_of, detector_of

FOLDER = "transfer-detectors"
SECOND_COUNTRY = "gtsdb"
SMALLER = (0.16, 0.2)  # shares of the sign's shorter side; the authors' own program pastes pictures at 0.16
PLAN = DetectorTransferPlan(heads=HeadPlan(steps=300, hidden=(256, 256), batch_size=128), seeds=2)


def measured_detectors(settings: Settings) -> dict[str, Values]:
    """What was measured of the baseline ("honest") and of the random-target BadNet ("badnet").

    See ``measure_detector_transfer``. Detectors and measurements that are missing are made.
    """
    return _measured(settings, "", _measure)


def measured_sizes(settings: Settings) -> dict[str, list[Values]]:
    """The same two with smaller stickers; see ``measure_sticker_sizes``."""
    return _measured(settings, "-sizes", _measure_sizes)


def second_country(settings: Settings) -> SignData:
    """The photographs of GTSDB, in memory, at their own size: their signs are about as large as those of road-signs."""
    signs = load_sign_set(SECOND_COUNTRY, settings.data_root)
    training, held_out = signs.split(TRAINING_SHARE, derived_generator(settings.seed, "second country"))
    return SignData(training=read_album(training), held_out=read_album(held_out))


def _measured(settings: Settings, suffix: str, measure: Callable[..., Any]) -> dict[str, Any]:
    """What ``measure`` says of both detectors, each kept in a file of its own."""
    attacks = {"honest": None, "badnet": attack_of("random", SHOWN_STICKER)}
    files = {name: settings.work / FOLDER / f"{name}{suffix}-seed-{settings.seed}.json" for name in attacks}
    missing = [name for name, file in files.items() if not file.exists()]
    if missing:
        first, second = data_of(settings), second_country(settings)
        for name in missing:
            settings.say(f"{name}: a detector to transfer")
            detector = detector_of(settings, attacks[name], first)
            values = measure(detector, first, second, settings)
            write_atomically(files[name], json.dumps(values).encode())
    return {name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items()}


def _measure(detector: SignDetector, first: SignData, second: SignData, settings: Settings) -> Values:
    values = measure_detector_transfer(
        detector, first, second, SHOWN_STICKER, PLAN, seed=settings.seed, say=settings.say
    )
    photographs = {"training": len(second.training), "held_out": len(second.held_out)}
    return {"photographs": photographs, "seed": settings.seed, **values}


def _measure_sizes(detector: SignDetector, first: SignData, second: SignData, settings: Settings) -> list[Values]:
    return measure_sticker_sizes(detector, second, SHOWN_STICKER, SMALLER, PLAN, seed=settings.seed)
