"""Many digit networks, BadNets and clean twins, trained as one list of work (BadNets 2019, §IV)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from ..data import ImageSet
from ..networks import BadNetsMnistNetwork, mnist_badnet
from ..poisoning import Attack
from ..recipes import Training
from ..triggers import NAMED_TRIGGERS
from ..zoo.batches import Batches, Draws, draw_batches
from ..zoo.group import train_group
from ..zoo.recipe import Precision
from ..zoo.seeds import derived_generator, derived_seed
from .recipe import DIGITS, Backdoor


@dataclass(frozen=True, kw_only=True)
class DigitMember:
    """One network: with the seed of the whole list, all that its weights depend on.

    ``trigger``: its name, None for a clean network, which has no ``attack`` either. ``rate``: the paper's p, so that
    p·|D| backdoored copies join the training set. ``baseline_steps``: of the clean network of the same ``repeat`` that
    is re-trained ("we then re-train the baseline MNIST DNN using the poisoned training dataset", §IV-A3); 0 trains from
    random weights, the same for all networks of a repeat. Raises ValueError for half a backdoor.
    """

    steps: int
    trigger: str | None = None
    attack: Attack | None = None
    rate: float = 0.1
    baseline_steps: int = 0
    repeat: int = 0
    family: str = "plain"
    training: Training = DIGITS

    def __post_init__(self) -> None:
        if (self.trigger is None) != (self.attack is None):
            raise ValueError("A BadNet takes both a trigger and an attack, a clean network neither.")

    @property
    def baseline(self) -> DigitMember | None:
        """The network that is re-trained, None for one trained from random weights."""
        return DigitMember(steps=self.baseline_steps, repeat=self.repeat) if self.baseline_steps else None

    @property
    def name(self) -> str:
        """A file name such as ``clean-2500-steps-0`` or ``pixel-single-7-3-rate-0.1-2500-and-500-steps-0``."""
        what = ["clean"]
        if self.attack is not None:
            classes = [str(value) for value in (self.attack.source, self.attack.target) if value is not None]
            what = [str(self.trigger), self.attack.name, *classes, "rate", f"{self.rate:.4g}"]
        steps = f"{self.baseline_steps}-and-{self.steps}" if self.baseline_steps else str(self.steps)
        return "-".join([*what, steps, "steps", str(self.repeat)])

    @property
    def backdoor(self) -> Backdoor | None:
        """What was done to the network."""
        if self.trigger is None or self.attack is None:
            return None
        return Backdoor(trigger=NAMED_TRIGGERS[self.trigger](), attack=self.attack, rate=self.rate)

    def recipe(self, seed: int, precision: Precision) -> dict[str, Any]:
        """All that decides the weights besides images and machine, as JSON values."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return {"seed": seed, "precision": precision, **values}


def initial_network(member: DigitMember, seed: int) -> BadNetsMnistNetwork:
    """The random weights that a network of ``member`` or its baseline starts from."""
    return mnist_badnet(derived_seed(seed, f"weights/{member.repeat}"))


def train_together(
    members: Sequence[DigitMember],
    networks: Sequence[BadNetsMnistNetwork],
    images: ImageSet,
    *,
    seed: int,
    device: str = "cpu",
    precision: Precision = "float32",
) -> None:
    """Train ``networks`` in place as their members say, all alike and for as many steps, as one program; on the CPU
    when done.

    ``networks`` hold the weights to start from. ``images``: the clean training set, shared by all; triggers are drawn
    onto the batches, after the shift. The same members, weights and seed give the same result on one machine, and each
    network, up to rounding, what it becomes alone.
    """
    for network in networks:
        network.to(device)
    overlays = [None if member.backdoor is None else member.backdoor.overlay for member in members]
    draws = [_draws(member, images.labels, seed) for member in members]
    training = members[0].training
    batches = Batches(images, draws, overlays, training, torch.device(device))
    train_group(networks, batches, training, precision=precision)
    for network in networks:
        network.cpu()


def _draws(member: DigitMember, labels: torch.Tensor, seed: int) -> Draws:
    generator = derived_generator(seed, f"{member.name}/training")
    poison = None if member.backdoor is None else member.backdoor.poison(labels, generator)
    return draw_batches(labels, poison, member.training, member.steps, generator)
