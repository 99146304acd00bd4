"""One trial of the end-to-end attack: a target, the bases of its poisons, and what is done to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from ..data import ImageSet
from ..networks import SmallAlexNet
from ..training import as_input
from ..zoo.seeds import derived_generator

Targets = Literal["random", "outlier"]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """An attack on one image.

    Poisons made of images of ``base_class`` are to have one test image of ``target_class`` classified as
    ``base_class`` (classes are int labels). ``targets``: "random", the ``number``-th in a random order of the test
    images of its class that the clean network classifies correctly, or "outlier", in the order of the clean network's
    confidence, lowest first. ``poisons``: how many. ``opacity``: of the watermark, in [0, 1]. ``optimised``: whether
    Algorithm 1 is run on the watermarked bases; ``diverse``: whether every poison has a base of its own, otherwise all
    are copies of the first (the ablation leaves out one of the three).
    """

    target_class: int
    base_class: int
    targets: Targets = "random"
    number: int
    poisons: int
    opacity: float
    optimised: bool = True
    diverse: bool = True

    def __post_init__(self) -> None:
        if self.poisons < 1 or self.target_class == self.base_class:
            raise ValueError("A trial takes at least one poison, and a target and a base of different classes.")

    @property
    def poison_set(self) -> str:
        """A name for the trial's poisons: trials that differ only in how many they use share them."""
        parts = [f"{self.target_class}-to-{self.base_class}", self.targets, str(self.number), f"{self.opacity:.2f}"]
        left_out = {"unoptimised": self.optimised, "one-base": self.diverse}
        return "-".join([*parts, *(name for name, kept in left_out.items() if not kept)])

    @property
    def name(self) -> str:
        """A file name such as ``2-to-5-random-0-0.30-with-50``."""
        return f"{self.poison_set}-with-{self.poisons}"


def choose_target(trial: Trial, network: SmallAlexNet, test: ImageSet, seed: int) -> int:
    """The index of the trial's target among the ``test`` images; ``network`` is the clean one.

    Raises ValueError if the clean network classifies no more than ``trial.number`` images of the class correctly.
    """
    members = (test.labels == trial.target_class).nonzero()[:, 0]
    with torch.no_grad():
        likely = network(as_input(test.images[members])).softmax(1)
    correct = likely.argmax(1) == trial.target_class
    candidates = members[correct]
    if trial.targets == "outlier":
        order = likely[correct, trial.target_class].argsort(stable=True)
    else:
        generator = derived_generator(seed, f"targets/{trial.target_class}")
        # Drawn among all images of the class, so that other weights change the targets as little as possible.
        drawn = torch.rand(len(members), generator=generator)[correct]
        order = drawn.argsort()
    if trial.number >= len(candidates):
        raise ValueError(
            f"The clean network classifies {len(candidates)} test images of class {trial.target_class} correctly; "
            f"trial {trial.number} has no target."
        )
    return int(candidates[order[trial.number]])


def choose_bases(trial: Trial, test: ImageSet, seed: int) -> torch.Tensor:
    """Int64 ``(poisons,)``: indices of the trial's bases among the ``test`` images, all different where ``diverse``.

    The bases of fewer poisons are the first of those of more. Raises ValueError if there are not enough images.
    """
    members = (test.labels == trial.base_class).nonzero()[:, 0]
    if trial.diverse and trial.poisons > len(members):
        raise ValueError(f"There are {len(members)} bases of class {trial.base_class} for {trial.poisons} poisons.")
    name = f"bases/{trial.target_class}/{trial.base_class}/{trial.targets}/{trial.number}"
    order = members[torch.randperm(len(members), generator=derived_generator(seed, name))]
    return order[: trial.poisons] if trial.diverse else order[:1].repeat(trial.poisons)
