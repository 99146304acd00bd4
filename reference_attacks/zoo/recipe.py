"""What each network of a zoo is, derived from the zoo's seed and the network's name alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

import torch

from ..networks import FAMILIES
from ..poisoning import Attack, AttackName
from ..recipes import RECIPES, Training, make_training
from ..tasks import find_task
from .seeds import derived_generator
from .triggers import Split, check_kind, trigger_numbers

Goal = Literal["source-target", "all-to-one", "all-to-all"]
GOALS: tuple[Goal, ...] = ("source-target", "all-to-one", "all-to-all")
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True, kw_only=True)
class ZooPlan:
    """How many networks a zoo holds and how they differ.

    The defaults are the threat model of Universal Litmus Patterns, §3.1 and §4: one source and one target class, one of
    20 random 5x5 patches, places drawn for each image. Triggers and source-target pairs of the networks that detectors
    are fitted on are disjoint from those of the test networks. Calibration networks are clean ones that no detector is
    fitted on. ``task``: a name or an image folder. ``poison_ratios``: share of backdoored images among those of the
    source class. ``least_attack_success``: what a poisoned network must exceed to be kept. ``recipes``: how networks
    are trained, names of ``RECIPES``. Where several ``families``, ``steps``, ``goals``, ``triggers``,
    ``poison_ratios`` or ``recipes`` are given, networks take turns or draw one.
    """

    task: str = "mnist"
    classes: int = 10
    seed: int = 0
    clean_fit: int
    clean_calibration: int
    clean_test: int
    poisoned_fit: int
    poisoned_test: int
    families: tuple[str, ...]
    steps: tuple[int, ...]
    recipes: tuple[str, ...] = ("task",)
    goals: tuple[Goal, ...] = ("source-target",)
    triggers: tuple[str, ...] = ("patch5",)
    poison_ratios: tuple[float, ...] = (0.5,)
    least_attack_success: float = 0.9
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        counts = (self.clean_fit, self.clean_calibration, self.clean_test, self.poisoned_fit, self.poisoned_test)
        if min(counts) < 0:
            raise ValueError("Numbers of networks cannot be negative.")
        if any(family not in FAMILIES for family in self.families) or not self.families:
            raise ValueError(f"Choose architecture families among {', '.join(FAMILIES)}.")
        if any(recipe not in RECIPES for recipe in self.recipes) or not self.recipes:
            raise ValueError(f"Choose training recipes among {', '.join(RECIPES)}.")
        if any(goal not in GOALS for goal in self.goals) or not self.goals:
            raise ValueError(f"Choose goals of the attack among {', '.join(GOALS)}.")
        for kind in self.triggers:
            check_kind(kind)
        if not all(0 < ratio < 1 for ratio in self.poison_ratios):
            raise ValueError("A poison ratio must lie between 0 and 1.")
        if not self.triggers or not self.poison_ratios:
            raise ValueError("Name at least one kind of trigger and one poison ratio.")
        if min(self.steps, default=0) < 1:
            raise ValueError("A network needs at least one training step.")
        if self.classes < 2:
            raise ValueError(f"{self.task} has images of {self.classes} class; a backdoor needs at least two.")
        if not 0 <= self.least_attack_success < 1:
            raise ValueError("The least attack success must be a share from 0 up to, but not including, 1.")

    def members(self) -> list[Member]:
        """All members, clean and poisoned ones interleaved so that an unfinished zoo is still balanced."""
        counts: list[tuple[Split, bool, int]] = [
            ("fit", False, self.clean_fit),
            ("calibration", False, self.clean_calibration),
            ("test", False, self.clean_test),
            ("fit", True, self.poisoned_fit),
            ("test", True, self.poisoned_test),
        ]
        groups = [
            [self.member(split, poisoned, number) for number in range(count)] for split, poisoned, count in counts
        ]
        return _interleave(groups)

    def member(self, split: Split, poisoned: bool, number: int) -> Member:
        """The member of that number; it does not depend on how many others there are."""
        name = f"{'poisoned' if poisoned else 'clean'}-{split}-{number:04d}"
        generator = derived_generator(self.seed, name)
        family = self.families[number % len(self.families)]
        steps = self.steps[_draw(len(self.steps), generator)]
        recipe, training = self._training(name)
        backdoor = None
        if poisoned:
            numbers = trigger_numbers(split)
            backdoor = self._backdoor(split, number, numbers[_draw(len(numbers), generator)], generator)
        return Member(
            name=name, split=split, family=family, steps=steps, recipe=recipe, training=training, backdoor=backdoor
        )

    def _training(self, name: str) -> tuple[str, Training]:
        """The recipe of a network, and what it comes to."""
        generator = derived_generator(self.seed, f"{name}/recipe")
        recipe = self.recipes[_draw(len(self.recipes), generator)]
        return recipe, make_training(recipe, find_task(self.task).training, generator)

    def _backdoor(self, split: Split, number: int, trigger: int, generator: torch.Generator) -> Backdoor:
        pairs = self.pairs(split)
        source, target = pairs[number % len(pairs)]
        goal = self.goals[_draw(len(self.goals), generator)]
        return Backdoor(
            goal=goal,
            kind=self.triggers[_draw(len(self.triggers), generator)],
            number=trigger,
            ratio=self.poison_ratios[_draw(len(self.poison_ratios), generator)],
            source=source if goal == "source-target" else None,
            target=target if goal != "all-to-all" else None,
        )

    def pairs(self, split: Split) -> list[tuple[int, int]]:
        """The source-target pairs of one split: a random half of all for fitting, the other half for testing."""
        everything = range(self.classes)
        pairs = [(source, target) for source in everything for target in everything if source != target]
        order = torch.randperm(len(pairs), generator=derived_generator(self.seed, "pairs")).tolist()
        half = len(pairs) // 2
        return [pairs[i] for i in (order[:half] if split == "fit" else order[half:])]


@dataclass(frozen=True, kw_only=True)
class Backdoor:
    """What was done to one network.

    ``kind`` and ``number``: the trigger. ``source``: the class whose images change, None for all. ``target``: the class
    they become, None where class i becomes i + 1.
    """

    goal: Goal
    kind: str
    number: int
    ratio: float
    source: int | None
    target: int | None

    def attack(self, classes: int) -> Attack:
        """Whose images change, and into what."""
        name: AttackName = "single" if self.goal == "source-target" else self.goal
        return Attack(name=name, classes=classes, source=self.source, target=self.target)


@dataclass(frozen=True, kw_only=True)
class Member:
    """One network of a zoo; ``training`` is what ``recipe`` comes to, ``backdoor`` None for a clean one."""

    name: str
    split: Split
    family: str
    steps: int
    recipe: str
    training: Training
    backdoor: Backdoor | None = None


class Trainable(Protocol):
    """What decides which networks can train as one program."""

    @property
    def family(self) -> str:
        """The architecture."""
        ...

    @property
    def steps(self) -> int:
        """How many steps the network is trained for."""
        ...

    @property
    def training(self) -> Training:
        """How it is trained."""
        ...


AnyMember = TypeVar("AnyMember", bound=Trainable)


def grouped(members: Sequence[AnyMember], size: int) -> list[list[AnyMember]]:
    """``members`` in groups of at most ``size`` that train as one program: alike but for weights, images and backdoor.

    A group depends on the list of all members alone, not on which of them are trained already.
    """
    waiting: dict[tuple[str, int, Training], list[AnyMember]] = {}
    groups: list[list[AnyMember]] = []
    for member in members:
        kind = (member.family, member.steps, member.training)
        group = waiting.setdefault(kind, [])
        if not group:
            groups.append(group)
        group.append(member)
        if len(group) == size:
            waiting[kind] = []
    return groups


def _draw(count: int, generator: torch.Generator) -> int:
    return int(torch.randint(count, (1,), generator=generator))


def _interleave(groups: Sequence[list[Member]]) -> list[Member]:
    placed = [
        ((position + 0.5) / len(group), order, member)
        for order, group in enumerate(groups)
        for position, member in enumerate(group)
    ]
    return [member for _, _, member in sorted(placed, key=lambda entry: entry[:2])]
