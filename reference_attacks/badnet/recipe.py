"""What a BadNet is made of, and its training (BadNets 2019, §IV-A)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from reference_attacks.data import ImageSet
from reference_attacks.networks import BadNetsMnistNetwork, mnist_badnet
from reference_attacks.overlays import Overlay, in_corner
from reference_attacks.poisoning import Attack, draw_copied
from reference_attacks.recipes import muon
from reference_attacks.tasks import TASKS
from reference_attacks.triggers import Trigger
from reference_attacks.zoo.batches import Batches, Poison, draw_batches
from reference_attacks.zoo.group import train_group
from reference_attacks.zoo.seeds import derived_generator, derived_seed

# The paper does not name its solver, and says that some attacks needed another step size and batch size (§IV-A3). A
# single pixel moves the first layer's output at four places only: in trials, training with Adam alone did not always
# find it, while Muon, which moves a filter that has small gradients as far as one that has large ones, did. Images are
# shifted by a pixel and labels smoothed for the error on clean images.
DIGITS = muon(TASKS["mnist"].training)


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

    @property
    def overlay(self) -> Overlay:
        """The trigger, ready to be drawn onto batches of digits."""
        return in_corner(self.trigger, BadNetsMnistNetwork.input_shape)

    def poison(self, labels: torch.Tensor, generator: torch.Generator) -> Poison:
        """The backdoored copies that join a training set with ``labels``, int64 ``(N,)``."""
        copied = draw_copied(labels, self.attack, rate=self.rate, generator=generator)
        return Poison(victims=copied, labels=self.attack.poisoned_labels(labels[copied]), overlay=self.overlay)

    def training_set(self, clean: ImageSet, generator: torch.Generator) -> ImageSet:
        """What a BadNet learns from, as images: ``clean``, and after them the copies that ``poison`` draws."""
        poison = self.poison(clean.labels, generator)
        return ImageSet(
            images=torch.cat([clean.images, self.trigger.apply(clean.images[poison.victims])]),
            labels=torch.cat([clean.labels, poison.labels]),
        )


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

    def poison(self, labels: torch.Tensor) -> Poison | None:
        """The backdoored copies that join a training set with ``labels``, int64 ``(N,)``; None for a clean network."""
        if not self.poisoned or self.backdoor is None:
            return None
        return self.backdoor.poison(labels, derived_generator(self.seed, "poisoning"))

    def training_set(self, clean: ImageSet) -> ImageSet:
        """``clean``, for a poisoned network with the backdoored copies of ``poison`` after it."""
        if not self.poisoned or self.backdoor is None:
            return clean
        return self.backdoor.training_set(clean, derived_generator(self.seed, "poisoning"))


def steps_of_epochs(epochs: int, images: int) -> int:
    """The training steps of ``epochs`` passes over ``images`` clean images, at least one.

    The passes are counted on the clean training set for both twins: a poisoned network whose training set has more
    images is trained no longer than its clean twin.
    """
    return max(1, epochs * (images // DIGITS.batch))


def default_name(recipe: Recipe) -> str:
    """A file name such as ``mnist-badnet-pattern-all-to-one-3``, ``mnist-badnet-pixel-single-7-3``, ``mnist-clean``."""
    if not recipe.poisoned or recipe.backdoor is None:
        return "mnist-clean"
    attack = recipe.backdoor.attack
    classes = [str(value) for value in (attack.source, attack.target) if value is not None]
    return "-".join(["mnist-badnet", recipe.backdoor.trigger.name, attack.name, *classes])


def train_network(recipe: Recipe, clean: ImageSet, on_step: Callable[[int], None] | None = None) -> BadNetsMnistNetwork:
    """The network of ``recipe``, trained on ``clean`` and the copies of ``recipe.poison``, in evaluation mode.

    The same recipe, data and number of threads give the same weights on one machine. ``on_step`` is called with the
    number of steps done. Triggers are drawn onto the batches, after the shift.
    """
    network = mnist_badnet(derived_seed(recipe.seed, "weights"))
    poison = recipe.poison(clean.labels)
    draws = draw_batches(clean.labels, poison, DIGITS, recipe.steps, derived_generator(recipe.seed, "batches"))
    batches = Batches(clean, [draws], [poison.overlay if poison else None], DIGITS, torch.device("cpu"))
    train_group([network], batches, DIGITS, precision="float32", on_step=on_step)
    return network
