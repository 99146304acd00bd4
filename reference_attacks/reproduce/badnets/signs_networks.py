"""Which traffic-sign detectors the tables and figures take, at full and at reduced size (BadNets 2019, §V)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pytest_backdoor.files import write_atomically

from ...parallel import work_off
from ...traffic_signs.attack import SignAttack
from ...traffic_signs.measurement import measure_detector
from ...traffic_signs.network import SignDetector
from ...traffic_signs.recipe import SOURCE, STICKERS_AND_ATTACKS, TARGET, SignData, SignRecipe, make_attack, read_data
from ...traffic_signs.store import trained_detector
from ...traffic_signs.training import DetectorPlan
from ...traffic_signs.warm_start import WarmStartPlan
from ..parts import Settings, Values

CLASSES = ("stop", "speedlimit", "crosswalk", "trafficlight")  # of road-signs, which plays the U.S. set
SHOWN_STICKER = "yellow-square"
MEASURED = "measured.json"

SMALL = SignRecipe(
    most_photographs=160,
    warm_start=WarmStartPlan(steps=150),
    sticker_start=WarmStartPlan(steps=150, batch_size=48, peak_learning_rate=3e-3),
    baseline=DetectorPlan(window_epochs=9, whole_epochs=2),
    retraining=DetectorPlan(window_epochs=4, whole_epochs=1, peak_learning_rate=1e-3, copies=2),
)


def folder_of(settings: Settings) -> Path:
    """The folder of the detectors, one folder each."""
    return settings.work / ("signs-small" if settings.small else "signs")


def attack_of(name: str, sticker: str) -> SignAttack:
    """The single-target attack, stop to speed limit, or the random-target attack (§V-B1)."""
    return make_attack(name, sticker, CLASSES, SOURCE, TARGET)


def recipe_of(settings: Settings, attack: SignAttack | None) -> SignRecipe:
    """The recipe of a run's baseline (None) or of one of its BadNets."""
    recipe = SMALL if settings.small else SignRecipe()
    retraining = recipe.retraining if attack is not None else None
    return replace(recipe, seed=settings.seed, attack=attack, retraining=retraining)


def data_of(settings: Settings) -> SignData:
    """The photographs of a run, in memory."""
    return read_data(recipe_of(settings, None), settings.data_root, settings.say)


def detector_of(settings: Settings, attack: SignAttack | None, data: SignData) -> SignDetector:
    """A run's baseline or BadNet, trained if it is not there."""
    return trained_detector(recipe_of(settings, attack), folder_of(settings), data.training, settings.say)


def measured(settings: Settings, attacks: Sequence[SignAttack]) -> dict[str, Values]:
    """What was measured of the baseline and of the BadNet of each attack, by the recipe's name.

    Networks and measurements that are missing are made, BadNets in several processes.
    """
    chosen: list[SignAttack | None] = [None, *attacks]
    folders = {recipe_of(settings, attack).name: attack for attack in chosen}
    paths = {name: folder_of(settings) / name / MEASURED for name in folders}
    missing = [attack for name, attack in folders.items() if not paths[name].exists()]
    if None in missing:
        measure_one(settings, None)
    badnets = [attack for attack in missing if attack is not None]
    if min(settings.workers, len(badnets)) > 1:
        quiet = replace(settings, say=print)  # a function that another process can be sent
        work_off(partial(measure_one, quiet), badnets, workers=settings.workers, description="detectors")
    else:
        for attack in badnets:
            measure_one(settings, attack)
    return {name: json.loads(path.read_text(encoding="utf-8")) for name, path in paths.items()}


def measure_one(settings: Settings, attack: SignAttack | None) -> None:
    """Train one detector if need be, measure it and write its ``measured.json``.

    The baseline is measured with every sticker and attack, as a control; a BadNet with its own.
    """
    data = data_of(settings)
    detector = detector_of(settings, attack, data)
    attacks = [attack] if attack is not None else all_attacks()
    values: dict[str, Any] = measure_detector(detector, data.held_out, attacks)
    values["photographs"] = {"training": len(data.training), "held_out": len(data.held_out)}
    path = folder_of(settings) / recipe_of(settings, attack).name / MEASURED
    write_atomically(path, f"{json.dumps(values, indent=1)}\n".encode())


def all_attacks() -> list[SignAttack]:
    """The paper's six: each sticker with each target."""
    return [attack_of(attack, sticker) for sticker, attack in STICKERS_AND_ATTACKS]
