"""The transfer attack on detectors: those of Tables IV and V, retrained for the signs of GTSDB."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

from pytest_backdoor.files import write_atomically

from ...traffic_signs.album import read_album
from ...traffic_signs.attack import SignAttack
from ...traffic_signs.detector_transfer import DetectorTransferPlan, measure_detector_transfer
from ...traffic_signs.heads import HeadPlan
from ...traffic_signs.photographs import load_sign_set
from ...traffic_signs.recipe import TRAINING_SHARE, SignData
from ...zoo.seeds import derived_generator
from .parts import Settings, Values
from .signs_networks import SHOWN_STICKER, attack_of, data_of, detector_of

FOLDER = "transfer-detectors"
SECOND_COUNTRY = "gtsdb"
PLAN = DetectorTransferPlan(heads=HeadPlan(steps=300, hidden=(256, 256), batch_size=128), seeds=2)


def measured_detectors(settings: Settings) -> dict[str, Values]:
    """What was measured of the baseline ("honest") and of the random-target BadNet ("badnet").

    See ``measure_detector_transfer``. Detectors and measurements that are missing are made.
    """
    attacks = {"honest": None, "badnet": attack_of("random", SHOWN_STICKER)}
    files = {name: settings.work / FOLDER / f"{name}-seed-{settings.seed}.json" for name in attacks}
    missing = [name for name, file in files.items() if not file.exists()]
    if missing:
        first, second = data_of(settings), second_country(settings)
        for name in missing:
            _measure(settings, attacks[name], first, second, files[name])
    return {name: _read(file) for name, file in files.items()}


def second_country(settings: Settings) -> SignData:
    """The photographs of GTSDB, in memory, at their own size: their signs are about as large as those of road-signs."""
    signs = load_sign_set(SECOND_COUNTRY, settings.data_root)
    training, held_out = signs.split(TRAINING_SHARE, derived_generator(settings.seed, "second country"))
    return SignData(training=read_album(training), held_out=read_album(held_out))


def _measure(settings: Settings, attack: SignAttack | None, first: SignData, second: SignData, file: Path) -> None:
    detector = detector_of(settings, attack, first)
    say = partial(_say, settings, file.stem)
    values = measure_detector_transfer(detector, first, second, SHOWN_STICKER, PLAN, seed=settings.seed, say=say)
    photographs = {"training": len(second.training), "held_out": len(second.held_out)}
    write_atomically(file, json.dumps({"photographs": photographs, "seed": settings.seed, **values}).encode())


def _say(settings: Settings, name: str, text: str) -> None:
    settings.say(f"{name}: {text}")


def _read(file: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return values
