"""The options of ``metapoison craft`` as a trial: which images, and which targets a clean network gets right."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import torch

from ..tasks import CIFAR10_CLASSES, load_task
from ..zoo.machine import Machine
from .cases import train_reference
from .images import choose_images
from .poison_files import TASK, DataChoice
from .problem import Problem
from .settings import CraftingPlan
from .trials import Trial, choose_targets, make_problem
from .victims import VictimTraining


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """``target_numbers``: int64 ``(T,)``, which of the classes' test images the targets are."""

    trial: Trial
    data: DataChoice
    problem: Problem
    target_numbers: torch.Tensor


def choose_trial(arguments: argparse.Namespace, plan: CraftingPlan, machine: Machine) -> Chosen:
    """What the options ask for. Raises DataNotFoundError, and ValueError for options that do not fit together."""
    names = CIFAR10_CLASSES if arguments.classes is None else tuple(arguments.classes.split(","))
    places = tuple(_place(name, CIFAR10_CLASSES) for name in names)
    wanted = None if arguments.wanted_class is None else _place(arguments.wanted_class, names)
    trial = Trial(
        target_class=_place(arguments.target_class, names),
        poison_class=_place(arguments.poison_class, names),
        wanted_class=wanted,
        number=arguments.pair,
        budget=arguments.budget / 100,
        epsilon=plan.bound,
        targets=arguments.targets,
    )
    data = DataChoice(classes=places, train_images=arguments.train_images, seed=arguments.seed)
    images = choose_images(*load_task(TASK, arguments.data_root), data.classes, data.train_images, data.seed)
    training = VictimTraining(network=plan.network, epochs=arguments.reference_epochs, batch=plan.batch)
    plan.check(len(images.training))
    network = train_reference(images.training, len(names), training, seed=arguments.seed, machine=machine)
    targets = choose_targets(trial, network, images.test, arguments.seed)
    problem = make_problem(trial, images.training, images.test, targets, len(names))
    return Chosen(trial=trial, data=data, problem=problem, target_numbers=targets)


def _place(name: str, names: tuple[str, ...]) -> int:
    if name not in names:
        raise ValueError(f"{name!r} is no class of this training set; choose among {', '.join(names)}.")
    return names.index(name)
