"""How poisons are crafted: the numbers of Algorithm 1 and of the authors' code. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

LEVELS = 255

Objective = Literal["cross-entropy", "margin"]
Looks = Literal["every", "last"]
Statistics = Literal["running", "batch"]


@dataclass(frozen=True, kw_only=True)
class CraftingPlan:
    """How poisons are crafted (Huang et al. 2020, §2.2, Algorithm 1); the defaults are the published code's.

    ``network``: of the surrogates, a name in ``reference_attacks.networks``. ``surrogates``: M. ``epochs``: the
    sentinel T, after which a surrogate starts afresh. ``unroll``: K, steps of SGD that are looked ahead. ``steps``:
    craft steps; in each, every surrogate goes through one epoch and the poisons take one step of Adam. ``batch``:
    images in a batch of a surrogate's training. ``learning_rate``: of its SGD, without momentum or weight decay;
    ``warm_up``: over how many epochs the rate grows to that. ``craft_rate``: of Adam, for pixels in [0, 1]; it grows
    with the square of the step over the first 5 steps of 60, and is divided by 10 after a third and after two thirds.
    ``bound``: ε of the ℓ∞ ball, for pixels in [0, 1].

    ``objective``: of the target's logits; the paper speaks of cross-entropy, its code takes the margin of Carlini and
    Wagner by default. ``looks``: at the target after every unrolled step, as the code does, or after the last one, as
    Algorithm 1 is printed. ``statistics``: of batch normalisation when the target is looked at: the running ones, which
    a victim uses when it classifies, or those of a training batch that the target is part of, as in the code.
    ``colour``: the bound of a smooth change of colours, for Y, U and V, none at 0 (the code: 0.04); ``smoothness``:
    the weight of its smoothness term.

    ``packed``: surrogates' batches hold every class in its share and poisons in as few batches as that allows, not
    images at random as in the paper. Only batches with poisons cost a meta-gradient, and the poisons' gradients are as
    many; where poisons are a third of their class, crafting is nearly three times as fast.

    ``chunk``: how many surrogates are computed as one batched program; None: all on a GPU, one by one on a CPU, where
    grouped convolutions are slower. ``checkpoint``: compute each unrolled step a second time in place of keeping its
    graph, so that memory does not grow with K. Neither changes the result but for rounding.
    """

    network: str = "resnet-20"
    surrogates: int = 24
    epochs: int = 24
    unroll: int = 2
    steps: int = 60
    batch: int = 125
    learning_rate: float = 0.1
    warm_up: int = 5
    craft_rate: float = 200 / LEVELS
    bound: float = 16 / LEVELS
    objective: Objective = "margin"
    looks: Looks = "every"
    statistics: Statistics = "running"
    colour: float = 0.0
    smoothness: float = 1.0
    packed: bool = False
    chunk: int | None = None
    checkpoint: bool = False

    def check(self, images: int) -> None:
        """Raise ValueError for settings out of range, or more than ``images`` training images allow."""
        counts = (self.surrogates, self.epochs, self.unroll, self.steps, self.batch)
        if min(counts) < 1 or (self.chunk is not None and self.chunk < 1):
            raise ValueError("Surrogates, epochs, unrolled steps, craft steps, batch and chunk are at least 1.")
        if not (self.learning_rate > 0 and self.craft_rate > 0):
            raise ValueError("Learning rate and craft rate are positive.")
        if self.bound * LEVELS < 1 - 1e-4:
            raise ValueError(f"A bound of {self.bound} is below one of 255 levels: no uint8 image could change.")
        if not 0 <= self.colour <= 0.5 or self.smoothness < 0 or self.warm_up < 0:
            raise ValueError("The colours' bound is from 0 to 0.5; smoothness and warm-up are not negative.")
        needed = self.unroll + (self.statistics == "batch")
        if images // self.batch < needed:
            raise ValueError(
                f"{images} training images are {images // self.batch} batches of {self.batch}, and {needed} different "
                "ones are unrolled; choose a smaller batch or fewer unrolled steps."
            )

    @property
    def whole_bound(self) -> float:
        """The bound in whole levels of 255, so that rounding an image within it leaves it there."""
        return int(self.bound * LEVELS + 1e-4) / LEVELS

    def craft_rate_at(self, step: int) -> float:
        """Adam's rate in craft step ``step``, counted from 0: the code's for 60 steps, stretched to ``steps``."""
        place = 60 * step / self.steps
        growth = min(1.0, ((place + 1) / 5) ** 2)
        return self.craft_rate * growth * (1.0 if place < 20 else 0.1 if place < 40 else 0.01)

    def learning_rate_at(self, epoch: int) -> float:
        """The rate of a surrogate's SGD in its epoch ``epoch``, counted from 0."""
        return self.learning_rate * min(1.0, (epoch + 1) / max(1, self.warm_up))


# What two CPU cores can do in some minutes for each target.
REDUCED = CraftingPlan(network="small-convnet", surrogates=8, epochs=16, objective="cross-entropy", packed=True)
