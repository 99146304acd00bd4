"""The two kinds of work of a folder: crafting the poisons of one trial, and training a group of victims."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import torch

from ..zoo.seeds import derived_seed
from .cases import Case, Trained, perturbed, train_cases
from .runs import CaseKey, Job
from .trials import Trial
from .workers import craft_together

if TYPE_CHECKING:
    from .folder import MetaPoisonFolder


def craft_poisons(folder: MetaPoisonFolder, workers: int, trial: Trial) -> None:
    """Craft the poisons of one trial, by ``workers`` processes; a crafting that was interrupted goes on."""
    progress = folder.poisons_path(trial).with_name(f"{trial.name}-progress")
    started = time.perf_counter()
    crafted = craft_together(
        folder.problem(trial),
        replace(folder.setting.crafting, bound=trial.epsilon),
        seed=derived_seed(folder.seed, f"metapoison/{trial.attack}/crafting"),
        workers=workers,
        folder=progress,
        device=folder.machine.device,
        precision=folder.machine.precision,
        snapshots=folder.setting.snapshots,
    )
    arrays = {f"step/{step}": images for step, images in crafted.snapshots.items()}
    values = {"history": [asdict(step) for step in crafted.history], "seconds": time.perf_counter() - started}
    folder.keep_poisons(trial, {"images": crafted.images, **arrays}, values)
    shutil.rmtree(progress, ignore_errors=True)


def train_jobs(folder: MetaPoisonFolder, jobs: Sequence[Job]) -> None:
    """Train the networks of ``jobs``, as one program, and write the records of their victims."""
    for one in trained_victims(folder, jobs):
        folder.keep(one.run, one.values, one.weights)


def trained_victims(folder: MetaPoisonFolder, jobs: Sequence[Job]) -> list[Trained]:
    """The victims of ``jobs``, all of one variant; those that are done are trained again, and become what they were."""
    validation = folder.images().test.take(folder.validation())
    training = folder.training(jobs[0][0])
    return train_cases(jobs, _cases(folder, jobs), validation, training, seed=folder.seed, machine=folder.machine)


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
                judged=~torch.isin(folder.validation(), targets),
            )
    return cases
