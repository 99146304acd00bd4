"""One attack of MetaPoison: which test images shall be taken for what, and which training images are changed for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from ..data import ImageSet
from ..training import predict
from ..zoo.seeds import derived_generator
from .problem import Problem
from .settings import LEVELS

Arm = Literal["poisoned", "clean", "random"]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """An attack on one or several test images (Huang et al. 2020, §3).

    ``target_class``: of the targets. ``poison_class``: of the images that are perturbed, the first ones of the training
    set; they keep their label. ``wanted_class``: what the targets shall be taken for, None for the poison class; any
    other is the third-party attack (§3.6). Classes are int labels of the setting. ``number``: the pair's, which selects
    the targets among the test images of their class. ``budget``: poisons as a share of the training set, in (0, 1].
    ``epsilon``: the bound of a pixel's change, for pixels in [0, 1]. ``targets``: how many at once. ``arm``: what the
    victims are trained on: crafted poisons, the images as they are, or randomly perturbed ones.

    Raises ValueError where these do not fit together.
    """

    target_class: int
    poison_class: int
    wanted_class: int | None = None
    number: int = 0
    budget: float = 0.1
    epsilon: float = 16 / LEVELS
    targets: int = 1
    arm: Arm = "poisoned"

    def __post_init__(self) -> None:
        if self.target_class in (self.poison_class, self.wanted):
            raise ValueError("Poisons are of another class than the targets, and targets shall be taken for another.")
        if not 0 < self.budget <= 1 or not 0 < self.epsilon <= 1:
            raise ValueError("The budget is a share of the training images, the bound one of a pixel's range.")
        if self.number < 0 or self.targets < 1:
            raise ValueError("Pairs are counted from 0, and a trial has at least one target.")

    @property
    def wanted(self) -> int:
        """The class that the attacker wants the targets to be taken for."""
        return self.poison_class if self.wanted_class is None else self.wanted_class

    @property
    def attack(self) -> str:
        """A name for what the trial is about, the same for all arms."""
        by = "" if self.wanted == self.poison_class else f"-by-{self.poison_class}"
        several = "" if self.targets == 1 else f"-{self.targets}-targets"
        strength = f"{100 * self.budget:.3g}-percent-{self.epsilon * LEVELS:.3g}-levels"
        return f"{self.target_class}-to-{self.wanted}{by}-{self.number}{several}-{strength}"

    @property
    def name(self) -> str:
        """A file name such as ``2-to-5-0-10-percent-16-levels-poisoned``."""
        return f"{self.attack}-{self.arm}"


def choose_targets(trial: Trial, network: nn.Module, test: ImageSet, seed: int) -> torch.Tensor:
    """Int64 ``(targets,)``: the trial's targets among the ``test`` images, in a random order of their class.

    Only images that ``network``, a clean one, classifies correctly: of others an attack proves nothing. Pair n has
    those that follow the ones of pair n - 1. Raises ValueError if there are not enough.
    """
    members = (test.labels == trial.target_class).nonzero()[:, 0]
    correct = predict(network, test.images[members]) == trial.target_class
    # Drawn among all images of the class, so that other weights change the targets as little as possible.
    drawn = torch.rand(len(members), generator=derived_generator(seed, f"targets/{trial.target_class}"))
    candidates = members[correct][drawn[correct].argsort()]
    start = trial.number * trial.targets
    if start + trial.targets > len(candidates):
        raise ValueError(
            f"The clean network classifies {len(candidates)} test images of class {trial.target_class} correctly; pair "
            f"{trial.number} has no {trial.targets} targets."
        )
    return candidates[start : start + trial.targets]


def choose_poisons(trial: Trial, labels: torch.Tensor) -> torch.Tensor:
    """Int64 ``(P,)``: the first training images of the poison class, of ``labels`` int64 ``(N,)`` (§3).

    Raises ValueError if the class has fewer than the budget allows for: then a smaller budget says what is meant.
    """
    members = (labels == trial.poison_class).nonzero()[:, 0]
    count = max(1, round(trial.budget * len(labels)))
    if count > len(members):
        raise ValueError(
            f"{100 * trial.budget:g} % of {len(labels)} training images are {count}, but class {trial.poison_class} "
            f"has only {len(members)}; choose a smaller budget."
        )
    return members[:count]


def make_problem(
    trial: Trial, training: ImageSet, test: ImageSet, targets: Sequence[int] | torch.Tensor, classes: int
) -> Problem:
    """The problem of the trial's poisoner; ``targets`` are indices of ``test`` images."""
    chosen = torch.as_tensor(targets)
    return Problem(
        clean=training,
        poisons=choose_poisons(trial, training.labels),
        targets=test.images[chosen],
        true_labels=test.labels[chosen],
        labels=torch.full_like(chosen, trial.wanted),
        classes=classes,
    )
