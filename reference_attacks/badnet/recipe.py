"""What a BadNet is made of, and its training (BadNets 2019, §IV-A)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from reference_attacks.data import ImageSet
from reference_attacks.networks import BadNetsMnistNetwork, mnist_badnet
from reference_attacks.poisoning import Attack, add_backdoored_copies
from reference_attacks.training import TrainingPlan, train
from reference_attacks.triggers import Trigger
from reference_attacks.zoo.seeds import derived_seed


@dataclass(frozen=True, kw_only=True)
class Backdoor:
    """A trigger, what it shall do, and the share of the training set that is copied with it.

    ``rate`` is the paper's p: p·|D| backdoored copies join the training set. Raises ValueError if it is not in (0, 1].
    """

    trigger: Trigger
    attack: Attack
    rate: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 1:
            raise ValueError(f"The poison rate must lie in (0, 1], not {self.rate}.")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One MNIST network: all that its weights depend on, besides the training images and the machine.

    ``poisoned`` False makes the clean twin: the same initial weights and number of steps, no backdoored image. Its
    ``backdoor``, if any, is then only measured on it, as a control. Raises ValueError for a number out of its range.
    """

    backdoor: Backdoor | None
    poisoned: bool
    steps: int
    seed: int = 0

    def __post_init__(self) -> None:
        if self.poisoned and self.backdoor is None:
            raise ValueError("A poisoned network needs a backdoor.")
        if self.steps < 1:
            raise ValueError(f"The number of training steps must be positive, not {self.steps}.")
        if self.seed < 0:
            raise ValueError(f"The seed must not be negative, as {self.seed} is.")

    @property
    def plan(self) -> TrainingPlan:
        """How the network is trained."""
        return TrainingPlan(steps=self.steps)


def steps_of_epochs(epochs: int, images: int) -> int:
    """The training steps of ``epochs`` passes over ``images`` clean images, at least one.

    The passes are counted on the clean training set for both twins: see ``TrainingPlan``.
    """
    return max(1, epochs * (images // TrainingPlan(steps=1).batch_size))


def default_name(recipe: Recipe) -> str:
    """A file name such as ``mnist-badnet-pattern-all-to-one-3``, ``mnist-badnet-pixel-single-7-3``, ``mnist-clean``."""
    if not recipe.poisoned or recipe.backdoor is None:
        return "mnist-clean"
    attack = recipe.backdoor.attack
    classes = [str(value) for value in (attack.source, attack.target) if value is not None]
    return "-".join(["mnist-badnet", recipe.backdoor.trigger.name, attack.name, *classes])


def training_set(recipe: Recipe, clean: ImageSet) -> ImageSet:
    """The images that the network of ``recipe`` learns: ``clean``, and its backdoored copies for a poisoned one."""
    if not recipe.poisoned or recipe.backdoor is None:
        return clean
    backdoor = recipe.backdoor
    generator = torch.Generator().manual_seed(derived_seed(recipe.seed, "poisoning"))
    return add_backdoored_copies(clean, backdoor.trigger, backdoor.attack, rate=backdoor.rate, generator=generator)


def train_network(recipe: Recipe, data: ImageSet, on_step: Callable[[int], None] | None = None) -> BadNetsMnistNetwork:
    """The network of ``recipe``, trained on ``data`` (see ``training_set``), in evaluation mode.

    The same recipe, data and number of threads give the same weights on one machine.
    """
    network = mnist_badnet(derived_seed(recipe.seed, "weights"))
    generator = torch.Generator().manual_seed(derived_seed(recipe.seed, "batches"))
    train(network, data, recipe.plan, generator, on_step)
    return network
