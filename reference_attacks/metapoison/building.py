"""The two kinds of work of a folder: crafting the poisons of one trial, and training a group of victims."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..data import ImageSet
from ..zoo.seeds import derived_generator, derived_seed
from .crafting import craft, random_perturbation
from .measuring import View, Watch, accuracy_on, make_view
from .problem import Problem
from .runs import Job, VictimRun
from .together import Group
from .trials import Trial
from .victims import Replaced, train_victims

if TYPE_CHECKING:
    from .folder import MetaPoisonFolder

Weights = dict[str, torch.Tensor]


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


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A victim, on the CPU in evaluation mode.

    ``poisons``: what it was trained with in the place of the bases; these themselves for the clean arm. ``targets``:
    int64 ``(T,)``, indices of test images. ``values``: its record. ``weights``: see ``MetaPoisonFolder.weights``, None
    unless they are kept.
    """

    run: VictimRun
    network: nn.Module
    poisons: Replaced
    targets: torch.Tensor
    values: dict[str, Any]
    weights: Weights | None


@dataclass(frozen=True, kw_only=True)
class _Case:
    """What a victim is about, apart from its weights."""

    problem: Problem
    targets: torch.Tensor
    poisons: Replaced
    validation: ImageSet


def train_jobs(folder: MetaPoisonFolder, jobs: Sequence[Job]) -> None:
    """Train the networks of ``jobs``, as one program, and write the records of their victims."""
    for one in trained_victims(folder, jobs):
        folder.keep(one.run, one.values, one.weights)


def trained_victims(folder: MetaPoisonFolder, jobs: Sequence[Job]) -> list[Trained]:
    """The victims of ``jobs``, all of one variant.

    All randomness is drawn from the folder's seed and the victims' numbers, so a victim can be trained again. A record
    has "targets", indices of test images; "poison_accuracy", the share of poisons that the victim classifies as they
    are labelled; and everything of ``measuring.Watch.values``.
    """
    training, device, images = folder.training(jobs[0][0]), folder.machine.device, folder.images()
    cases = _cases(folder, jobs)
    networks = [folder.new_network(training, f"victims/{job[0].number}").to(device) for job in jobs]
    seen = [(run, network) for network, job in zip(networks, jobs, strict=True) for run in job]
    watches = {run: Watch(network, _view(folder, run, cases[_key(run)], training.batch)) for run, network in seen}
    trails = {run: [_state(network)] for run, network in seen if run.keep_weights}

    def look(_: int) -> None:
        for run, network in seen:
            watches[run].look()
            if run in trails:
                trails[run].append(_state(network))

    train_victims(
        networks,
        images.training,
        [None if job[0].trial.arm == "clean" else cases[_key(job[0])].poisons for job in jobs],
        training,
        [derived_generator(folder.seed, f"metapoison/victims/{job[0].number}/batches") for job in jobs],
        machine=folder.machine,
        on_epoch=look,
    )
    return [_trained(run, network, cases[_key(run)], watches[run], trails.get(run)) for run, network in seen]


def _key(run: VictimRun) -> tuple[Trial, int | None]:
    return run.trial, run.craft_step


def _cases(folder: MetaPoisonFolder, jobs: Sequence[Job]) -> dict[tuple[Trial, int | None], _Case]:
    """The case of every run, made once for all victims that share it."""
    cases: dict[tuple[Trial, int | None], _Case] = {}
    for run in (run for job in jobs for run in job):
        if _key(run) not in cases:
            problem, targets = folder.problem(run.trial), folder.targets(run.trial)
            poisons = Replaced(images=_perturbed(folder, run, problem), indices=problem.poisons)
            cases[_key(run)] = _Case(
                problem=problem, targets=targets, poisons=poisons, validation=folder.validation(targets)
            )
    return cases


def _perturbed(folder: MetaPoisonFolder, run: VictimRun, problem: Problem) -> torch.Tensor:
    """Uint8 ``(P, C, H, W)``: what takes the place of the bases."""
    trial = run.trial
    if trial.arm == "clean":
        return problem.bases
    if trial.arm == "random":
        generator = derived_generator(folder.seed, f"metapoison/{trial.attack}/random")
        return random_perturbation(problem.bases, trial.epsilon, generator)
    return folder.poisons(trial, run.craft_step)


def _view(folder: MetaPoisonFolder, run: VictimRun, case: _Case, batch: int) -> View:
    generator = derived_generator(folder.seed, f"metapoison/victims/{run.number}/looks")
    return make_view(
        case.problem,
        case.poisons.images,
        case.validation,
        batch=batch,
        generator=generator,
        device=folder.machine.device,
    )


def _state(network: nn.Module) -> Weights:
    return {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}


def _trained(run: VictimRun, network: nn.Module, case: _Case, watch: Watch, trail: Sequence[Weights] | None) -> Trained:
    poisons = ImageSet(images=case.poisons.images, labels=case.problem.clean.labels[case.poisons.indices])
    values = {"targets": case.targets.tolist(), "poison_accuracy": accuracy_on(network, poisons), **watch.values()}
    weights = None if trail is None else {name: torch.stack([one[name] for one in trail]) for name in trail[0]}
    return Trained(run=run, network=network, poisons=case.poisons, targets=case.targets, values=values, weights=weights)
