"""One unit of a zoo's work: train a group of its networks and measure each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from safetensors.torch import save as safetensors_bytes
from torch import nn

from ..data import ImageSet
from ..networks import make_network
from ..overlays import Overlay
from ..tasks import find_task
from ..training import as_input, predicted_classes
from .batches import Batches, choose_poison, draw_batches
from .group import train_group
from .recipe import Backdoor, Member, ZooPlan
from .seeds import derived_generator, derived_seed
from .triggers import make_overlay

EVALUATION_BATCH = 1000


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A finished network: ``weights`` as the bytes of a safetensors file, ``record`` for the manifest (JSON values)."""

    name: str
    weights: bytes
    record: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class TaskImages:
    """Training and test images of a zoo's task."""

    train: ImageSet
    test: ImageSet

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    @property
    def classes(self) -> int:
        """The number of classes."""
        return int(self.train.labels.max()) + 1


def train_members(plan: ZooPlan, members: Sequence[Member], images: TaskImages, device: str) -> list[Trained]:
    """Train ``members`` as one group and measure each network.

    The same plan and group always give the same weights on one machine.
    """
    networks = trained_networks(plan, members, images, device)
    return [_measured(plan, member, network, images, device) for member, network in zip(members, networks, strict=True)]


def trained_networks(plan: ZooPlan, members: Sequence[Member], images: TaskImages, device: str) -> list[nn.Module]:
    """The networks of one group, trained as one program, in evaluation mode on ``device``."""
    training = members[0].training
    shape, classes = images.input_shape, images.classes
    networks = [
        make_network(member.family, shape, classes, seed=derived_seed(plan.seed, f"{member.name}/weights")).to(device)
        for member in members
    ]
    overlays = [overlay_of(plan, member.backdoor, shape) for member in members]
    draws = []
    for member, overlay in zip(members, overlays, strict=True):
        generator = derived_generator(plan.seed, f"{member.name}/training")
        labels = images.train.labels
        poison = None
        if member.backdoor is not None and overlay is not None:
            poison = choose_poison(member.backdoor, overlay, labels, classes, generator)
        draws.append(draw_batches(labels, poison, training, member.steps, generator))
    batches = Batches(images.train, draws, overlays, training, torch.device(device))
    train_group(networks, batches, training, precision=plan.precision)
    return networks


def overlay_of(plan: ZooPlan, backdoor: Backdoor | None, input_shape: tuple[int, int, int]) -> Overlay | None:
    """The trigger of a network, None for a clean one."""
    if backdoor is None:
        return None
    return make_overlay(backdoor.kind, backdoor.number, input_shape, find_task(plan.task).place, plan.seed)


def attack_success(
    plan: ZooPlan, member: Member, network: nn.Module, overlay: Overlay, test: ImageSet, classes: int, device: str
) -> float:
    """The share of triggered test images of attacked classes that get the label that the attacker wants."""
    assert member.backdoor is not None
    attack = member.backdoor.attack(classes)
    victims = test.take(attack.victims(test.labels).nonzero()[:, 0])
    generator = derived_generator(plan.seed, f"{member.name}/test")
    places = torch.randint(len(overlay), (len(victims),), generator=generator)
    wanted = attack.poisoned_labels(victims.labels)
    triggered = (
        overlay.apply(as_input(images), chosen)
        for images, chosen in zip(victims.images.split(EVALUATION_BATCH), places.split(EVALUATION_BATCH), strict=True)
    )
    return (predicted_classes(network, triggered, device) == wanted).double().mean().item()


def clean_accuracy(network: nn.Module, test: ImageSet, device: str) -> float:
    """The share of test images that are classified correctly."""
    batches = (as_input(images) for images in test.images.split(EVALUATION_BATCH))
    return (predicted_classes(network, batches, device) == test.labels).double().mean().item()


def _measured(plan: ZooPlan, member: Member, network: nn.Module, images: TaskImages, device: str) -> Trained:
    overlay = overlay_of(plan, member.backdoor, images.input_shape)
    success = None
    if overlay is not None:
        success = attack_success(plan, member, network, overlay, images.test, images.classes, device)
    weights = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    record = {
        **asdict(member),
        "clean_accuracy": clean_accuracy(network, images.test, device),
        "attack_success": success,
    }
    return Trained(name=member.name, weights=safetensors_bytes(weights), record=record)
