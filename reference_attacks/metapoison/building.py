"""The two kinds of work of a folder: crafting the poisons of one trial, and training a group of victims."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from ..zoo.seeds import derived_seed
from .cases import Case, Trained, perturbed, train_cases
from .crafting import craft
from .runs import CaseKey, Job
from .together import Group
from .trials import Trial

if TYPE_CHECKING:
    from .folder import MetaPoisonFolder


def craft_poisons(folder: MetaPoisonFolder, trial: Trial, group: Group | None = None, rank: int = 0) -> None:
    """Craft the poisons of one trial; a crafting that was interrupted goes on.

    ``group``: the processes that share it, this one being number ``rank``; the first one writes.
    """
    progress = folder.poisons_path(trial).with_name(f"{trial.name}-progress")
    started = time.perf_counter()
    crafted = craft(
        folder.problem(trial),
        replace(folder.setting.crafting, bound=trial.epsilon),
        seed=derived_seed(folder.seed, f"metapoison/{trial.attack}/crafting"),
        folder=progress,
        device=folder.machine.device,
        precision=folder.machine.precision,
        group=group,
        snapshots=folder.setting.snapshots,
    )
    if rank:
        return
    arrays = {f"step/{step}": images for step, images in crafted.snapshots.items()}
    values = {"history": [asdict(step) for step in crafted.history], "seconds": time.perf_counter() - started}
    folder.keep_poisons(trial, {"images": crafted.images, **arrays}, values)
    shutil.rmtree(progress, ignore_errors=True)


def join_crafting(group: Group, rank: int, folder: MetaPoisonFolder, trial: Trial) -> None:
    """As ``craft_poisons``, for the processes that ``together.workers_group`` starts."""
    craft_poisons(folder, trial, group, rank)


def train_jobs(folder: MetaPoisonFolder, jobs: Sequence[Job]) -> None:
    """Train the networks of ``jobs``, as one program, and write the records of their victims."""
    for one in trained_victims(folder, jobs):
        folder.keep(one.run, one.values, one.weights)


def trained_victims(folder: MetaPoisonFolder, jobs: Sequence[Job]) -> list[Trained]:
    """The victims of ``jobs``, all of one variant; those that are done are trained again, and become what they were."""
    return train_cases(
        jobs, _cases(folder, jobs), folder.training(jobs[0][0]), seed=folder.seed, machine=folder.machine
    )


def _cases(folder: MetaPoisonFolder, jobs: Sequence[Job]) -> dict[CaseKey, Case]:
    """The case of every run, made once for all victims that share it."""
    cases: dict[CaseKey, Case] = {}
    for run in (run for job in jobs for run in job):
        if run.case not in cases:
            problem, targets = folder.problem(run.trial), folder.targets(run.trial)
            crafted = folder.poisons(run.trial, run.craft_step) if run.trial.arm == "poisoned" else None
            cases[run.case] = Case(
                problem=problem,
                targets=targets,
                poisons=perturbed(run.trial, problem, crafted, folder.seed),
                validation=folder.validation(targets),
            )
    return cases
