"""Folders of trials as they are found on disk, without anyone saying how they were made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..setting_file import SETTING
from ..zoo.machine import Machine
from .folder import MetaPoisonFolder, Setting
from .measuring import final
from .runs import VictimRun
from .settings import CraftingPlan
from .trials import Trial
from .victims import VictimTraining


def open_finished(path: Path, machine: Machine) -> MetaPoisonFolder:
    """The folder of one setting that ``path`` is, by what its ``setting.json`` says.

    Raises ValueError if ``path`` is no such folder.
    """
    try:
        values = json.loads((path / SETTING).read_text(encoding="utf-8"))
        seed = values.pop("seed")
        crafting, victims = CraftingPlan(**values.pop("crafting")), _training(values.pop("victims"))
        lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        setting = Setting(**{**values, **lists}, crafting=crafting, victims=victims)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no folder of MetaPoison's trials: it has no fitting {SETTING}.") from error
    return MetaPoisonFolder(path=path.parent, name=path.name, setting=setting, seed=seed, machine=machine)


def finished_runs(path: Path) -> list[tuple[VictimRun, dict[str, Any]]]:
    """The victims below ``path``, the folder of one setting, that are done, by name, each with its record."""
    records = [json.loads(file.read_text(encoding="utf-8")) for file in sorted((path / "victims").glob("*.json"))]
    return [(read_run(record["run"]), record) for record in records]


def choose_victims(path: Path, *, poisoned: int, clean: int) -> list[VictimRun]:
    """Of the victims that are done, those to show: the first of ``poisoned`` attacks that succeeded, and clean ones.

    Only victims that were trained as the poisoner expected, with finished poisons, whose targets are all taken for the
    wanted class. Raises ValueError if there is none.
    """
    usual = [
        (run, record) for run, record in finished_runs(path) if run.variant == "baseline" and run.craft_step is None
    ]
    first: dict[Trial, VictimRun] = {}
    for run, record in usual:
        if run.trial.arm == "poisoned" and final(record)["success"] == 1:
            first.setdefault(run.trial, run)
    if not first:
        raise ValueError(f"No attack of {path} succeeded, so there is no victim to export.")
    numbers: dict[int, VictimRun] = {}
    for run, _ in usual:
        if run.trial.arm == "clean":
            numbers.setdefault(run.number, run)
    return [*list(first.values())[:poisoned], *list(numbers.values())[:clean]]


def read_run(values: dict[str, Any]) -> VictimRun:
    """A run as a record or a card tells of it."""
    return VictimRun(**{**values, "trial": Trial(**values["trial"])})


def _training(values: dict[str, Any]) -> VictimTraining:
    return VictimTraining(**{**values, "drops": tuple(values["drops"])})
