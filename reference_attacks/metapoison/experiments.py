"""The experiments of MetaPoison (2020), §3, as lists of victims, in the full and in reduced sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path

import torch

from ..tasks import CIFAR10_CLASSES
from ..zoo.machine import Machine
from ..zoo.seeds import derived_generator
from .folder import MetaPoisonFolder, Setting
from .runs import VictimRun
from .settings import LEVELS, CraftingPlan
from .settings import REDUCED as REDUCED_CRAFTING
from .trials import Arm, Trial
from .victims import VARIANTS, VictimTraining

ARMS: tuple[Arm, ...] = ("poisoned", "random", "clean")


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How large the experiments are.

    ``name``: of the folder of their results. ``setting``: of all victims. ``budget``: the share of the training set
    that are poisons, except in Figure 5a. ``victims``: of each trial. ``pairs``: of a target's and a poisons' class in
    Figure 4. Others take the first of these pairs: ``stepped_pairs`` in Figure 3, whose craft steps are the setting's
    snapshots; ``budget_pairs`` in Figure 5a, with ``budgets``; ``varied_pairs`` in Figure 5b; ``bound_pairs`` with
    ``bounds`` of a pixel's change, in levels of 255; ``other_pairs`` of each attack in Figure 6c, ``several``: numbers
    of targets there; ``looked_into`` in Figures 6a and 6b.
    """

    name: str
    setting: Setting
    budget: float = 0.1
    victims: int
    pairs: int
    stepped_pairs: int
    budgets: tuple[float, ...]
    budget_pairs: int
    varied_pairs: int
    bounds: tuple[int, ...]
    bound_pairs: int
    other_pairs: int
    several: tuple[int, ...]
    looked_into: int


FULL = Scale(
    name="full",
    setting=Setting(
        crafting=CraftingPlan(steps=61, objective="cross-entropy"),
        snapshots=(0, 10, 20, 30, 40, 50),
        victims=VictimTraining(epochs=100),
    ),
    victims=8,
    pairs=10,
    stepped_pairs=2,
    budgets=(0.001, 0.005, 0.01, 0.02, 0.05, 0.1),
    budget_pairs=2,
    varied_pairs=2,
    bounds=(8, 16),
    bound_pairs=10,
    other_pairs=10,
    several=(2, 4),
    looked_into=2,
)
# What two CPU cores can do in some hours. The method is whole; classes, images, surrogates and the network are fewer or
# smaller, and so are the numbers of pairs and victims.
REDUCED = replace(
    FULL,
    name="reduced",
    setting=Setting(
        classes=(0, 1, 6),
        train_images=999,
        evaluation_images=1_000,
        crafting=REDUCED_CRAFTING,
        snapshots=(0, 10, 20, 40),
        victims=VictimTraining(network="small-convnet", epochs=40),
    ),
    victims=4,
    pairs=6,
    stepped_pairs=2,
    budgets=(0.001, 0.01, 0.03, 0.1),
    bound_pairs=2,
    other_pairs=3,
    several=(2,),
)
# Within ten minutes: too few pairs and victims for conclusions.
SMALL = replace(
    REDUCED,
    name="small",
    setting=replace(
        REDUCED.setting,
        train_images=501,
        evaluation_images=500,
        crafting=replace(REDUCED.setting.crafting, surrogates=4, steps=20),
        snapshots=(0, 10),
        victims=replace(REDUCED.setting.victims, epochs=15),
    ),
    victims=2,
    pairs=2,
    stepped_pairs=1,
    budgets=(0.01, 0.1),
    budget_pairs=1,
    varied_pairs=1,
    bound_pairs=1,
    other_pairs=1,
    looked_into=1,
)
SCALES = {scale.name: scale for scale in (FULL, REDUCED, SMALL)}


def choose_scale(device: str, *, small: bool) -> Scale:
    """The full experiments on a GPU, the reduced ones on a CPU, where the full ones would take months."""
    if small:
        return SMALL
    return REDUCED if device == "cpu" else FULL


def open_folder(work: Path, scale: Scale, seed: int, machine: Machine) -> MetaPoisonFolder:
    """Where victims of this size and seed are kept below ``work``."""
    path = work / f"metapoison-seed-{seed}"
    return MetaPoisonFolder(path=path, name=scale.name, setting=scale.setting, seed=seed, machine=machine)


def class_name(scale: Scale, label: int) -> str:
    """What a trial's class is called."""
    return CIFAR10_CLASSES[scale.setting.classes[label]]


def pair_label(scale: Scale, trial: Trial) -> str:
    """Such as ``bird to dog, 3``: the class of the target, what it shall be taken for, and the pair's number."""
    by = "" if trial.wanted == trial.poison_class else f" by {class_name(scale, trial.poison_class)}"
    ends = class_name(scale, trial.target_class), class_name(scale, trial.wanted)
    return f"{ends[0]} to {ends[1]}{by}, {trial.number + 1}"


def pairs(scale: Scale, count: int) -> list[Trial]:
    """``count`` trials with one target each, the classes drawn at random; of more, these are the first.

    No two of them have the same two classes until there are no others left; targets are always different ones.
    """
    ways = list(permutations(range(len(scale.setting.classes)), 2))
    order = torch.randperm(len(ways), generator=derived_generator(0, "metapoison/pairs")).tolist()
    drawn = [ways[order[number % len(ways)]] for number in range(count)]
    return [
        Trial(target_class=target, poison_class=poison, number=number, budget=scale.budget)
        for number, (target, poison) in enumerate(drawn)
    ]


def third_parties(scale: Scale, count: int) -> list[Trial]:
    """The first ``count`` pairs, but that targets shall be taken for a class which is neither's (§3.6).

    Targets and what they shall be taken for are the pairs'; the poisons are of another class, drawn at random.
    """
    generator = derived_generator(0, "metapoison/third parties")
    found = []
    for trial in pairs(scale, count):
        others = [
            label for label in range(len(scale.setting.classes)) if label not in (trial.target_class, trial.wanted)
        ]
        poison = others[int(torch.randint(len(others), (1,), generator=generator))]
        found.append(replace(trial, poison_class=poison, wanted_class=trial.wanted))
    return found


def victims(scale: Scale, trial: Trial, arm: Arm = "poisoned") -> list[VictimRun]:
    """The victims of one arm of a trial, trained as they are in Figure 4."""
    looked_into = trial in pairs(scale, scale.looked_into) and arm != "random"
    return [
        VictimRun(trial=replace(trial, arm=arm), number=number, keep_weights=looked_into and not number)
        for number in range(scale.victims)
    ]


def stepped_victims(scale: Scale, trial: Trial) -> dict[int, list[VictimRun]]:
    """Victims on the poisons after some craft steps, the last of them on the finished ones (Figure 3)."""
    plan = scale.setting
    early = {
        step: [replace(run, craft_step=step, keep_weights=False) for run in victims(scale, trial)]
        for step in plan.snapshots
    }
    return early | {plan.crafting.steps: victims(scale, trial)}


def budgets(scale: Scale) -> dict[float, list[Trial]]:
    """The same pairs with other numbers of poisons (Figure 5a), the fewer the first of the more."""
    chosen = pairs(scale, scale.budget_pairs)
    return {share: [replace(trial, budget=share) for trial in chosen] for share in scale.budgets}


def varied_victims(scale: Scale, trial: Trial) -> dict[str, list[VictimRun]]:
    """Victims that are trained otherwise than the poisoner knew, on the poisons of Figure 4 (Figure 5b)."""
    return {
        variant: victims(scale, trial)
        if variant == "baseline"
        else [replace(run, variant=variant, keep_weights=False) for run in victims(scale, trial)]
        for variant in VARIANTS
    }


def bounds(scale: Scale) -> dict[int, list[Trial]]:
    """The same pairs with other bounds of a pixel's change, by levels of 255."""
    chosen = pairs(scale, scale.bound_pairs)
    return {levels: [replace(trial, epsilon=levels / LEVELS) for trial in chosen] for levels in scale.bounds}


def attacks(scale: Scale) -> dict[str, list[Trial]]:
    """The kinds of attack of Figure 6c: one target, a third party, and several targets at once."""
    single = pairs(scale, scale.other_pairs)
    several = {f"{count} targets": [replace(trial, targets=count) for trial in single] for count in scale.several}
    third = {"third party": third_parties(scale, scale.other_pairs)} if len(scale.setting.classes) > 2 else {}
    return {"one target": single, **third, **several}


def in_turn(groups: Sequence[Sequence[VictimRun]], size: int) -> list[list[VictimRun]]:
    """``groups`` in lots of ``size``: a run that is stopped has whole groups, and each lot fills all processes."""
    return [[run for group in groups[start : start + size] for run in group] for start in range(0, len(groups), size)]
