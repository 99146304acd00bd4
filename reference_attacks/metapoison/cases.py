"""Victims of given training images and targets: trained as one program, and looked at while they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..data import ImageSet
from ..networks import make_network
from ..zoo.machine import Machine
from ..zoo.seeds import derived_generator, derived_seed
from .crafting import random_perturbation
from .measuring import Watch, make_view, predicted_on
from .problem import Problem
from .runs import CaseKey, Job, VictimRun
from .trials import Trial
from .victims import Replaced, VictimTraining, train_victims

Weights = dict[str, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Case:
    """What a victim is about, apart from its weights.

    ``problem``: the poisoner's. ``targets``: int64 ``(T,)``, indices of test images. ``poisons``: what takes the place
    of the bases; these themselves for clean victims. ``judged``: bool ``(V,)``, which validation images are no targets.
    """

    problem: Problem
    targets: torch.Tensor
    poisons: Replaced
    judged: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A victim, on the CPU in evaluation mode.

    ``clean``: the validation images that are no targets. ``values``: its record. ``weights``: see
    ``MetaPoisonFolder.weights``, None unless they are kept.
    """

    run: VictimRun
    case: Case
    network: nn.Module
    clean: ImageSet
    values: dict[str, Any]
    weights: Weights | None


def perturbed(trial: Trial, problem: Problem, crafted: torch.Tensor | None, seed: int) -> Replaced:
    """What takes the place of the bases in the trial's arm; ``crafted``: uint8 ``(P, C, H, W)``, for poisons."""
    if trial.arm == "clean":
        images = problem.bases
    elif trial.arm == "random":
        generator = derived_generator(seed, f"metapoison/{trial.attack}/random")
        images = random_perturbation(problem.bases, trial.epsilon, generator)
    else:
        assert crafted is not None
        images = crafted
    return Replaced(images=images, indices=problem.poisons)


def new_network(clean: ImageSet, classes: int, name: str, purpose: str, seed: int) -> nn.Module:
    """A network of the architecture ``name``, for images like those of ``clean``, with a purpose's initial weights."""
    channels, height, width = clean.images.shape[1:]
    weights = derived_seed(seed, f"metapoison/{purpose}/weights")
    return make_network(name, (channels, height, width), classes, seed=weights)


def train_reference(
    clean: ImageSet, classes: int, training: VictimTraining, *, seed: int, machine: Machine
) -> nn.Module:
    """The clean network that chooses targets, on the CPU in evaluation mode; ``clean``: the whole training set."""
    network = new_network(clean, classes, training.network, "reference", seed)
    generator = derived_generator(seed, "metapoison/reference/batches")
    train_victims([network], clean, [None], training, [generator], machine=machine)
    return network


def train_cases(
    jobs: Sequence[Job],
    cases: Mapping[CaseKey, Case],
    validation: ImageSet,
    training: VictimTraining,
    *,
    seed: int,
    machine: Machine,
) -> list[Trained]:
    """The victims of ``jobs``, whose cases have one clean training set and classes in common.

    ``validation``: V test images, for all; targets may be among them. All randomness is drawn from ``seed`` and the
    victims' numbers, so a victim can be trained again. A record has "targets", indices of test images;
    "poison_accuracy", the share of poisons that the victim classifies as they are labelled; and everything of
    ``measuring.Watch.values``.
    """
    first = cases[jobs[0][0].case].problem
    networks = [
        new_network(first.clean, first.classes, training.network, f"victims/{job[0].number}", seed).to(machine.device)
        for job in jobs
    ]
    seen = [(run, network) for network, job in zip(networks, jobs, strict=True) for run in job]
    shown, labels = validation.images.to(machine.device), validation.labels
    watches = {
        run: _watch(run, network, cases[run.case], labels, training.batch, seed, machine.device)
        for run, network in seen
    }
    trails = {run: [_state(network)] for run, network in seen if run.keep_weights}

    def look(_: int) -> None:
        for network, job in zip(networks, jobs, strict=True):
            predicted = predicted_on(network, shown)
            for run in job:
                watches[run].look(predicted)
                if run in trails:
                    trails[run].append(_state(network))

    train_victims(
        networks,
        first.clean,
        [None if job[0].trial.arm == "clean" else cases[job[0].case].poisons for job in jobs],
        training,
        [derived_generator(seed, f"metapoison/victims/{job[0].number}/batches") for job in jobs],
        machine=machine,
        on_epoch=look,
    )
    return [_trained(run, network, cases[run.case], validation, watches[run], trails.get(run)) for run, network in seen]


def _watch(
    run: VictimRun, network: nn.Module, case: Case, labels: torch.Tensor, batch: int, seed: int, device: str
) -> Watch:
    generator = derived_generator(seed, f"metapoison/victims/{run.number}/looks")
    view = make_view(
        case.problem,
        case.poisons.images,
        labels,
        case.judged,
        batch=batch,
        generator=generator,
        device=device,
    )
    return Watch(network, view)


def _state(network: nn.Module) -> Weights:
    return {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}


def _trained(
    run: VictimRun,
    network: nn.Module,
    case: Case,
    validation: ImageSet,
    watch: Watch,
    trail: Sequence[Weights] | None,
) -> Trained:
    right = predicted_on(network, case.poisons.images) == case.problem.clean.labels[case.poisons.indices]
    values = {
        "targets": case.targets.tolist(),
        "poison_accuracy": float(right.double().mean()),
        **watch.values(),
    }
    weights = None if trail is None else {name: torch.stack([one[name] for one in trail]) for name in trail[0]}
    clean = validation.take(case.judged.nonzero()[:, 0])
    return Trained(run=run, case=case, network=network, clean=clean, values=values, weights=weights)
