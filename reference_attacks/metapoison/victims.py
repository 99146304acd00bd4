"""Victims: networks trained from scratch on poisoned images, from initialisations that no surrogate had (§3.2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import nn
from torch.optim.lr_scheduler import MultiStepLR

from ..data import ImageSet
from ..recipes import Training
from ..zoo.batches import Batches, draw_epochs
from ..zoo.group import Scheduled, train_group_by
from ..zoo.machine import Machine

Variant = Literal["baseline", "batch and rate", "optimiser", "regularisation", "architecture"]
VARIANTS: tuple[Variant, ...] = ("baseline", "batch and rate", "optimiser", "regularisation", "architecture")


@dataclass(frozen=True, kw_only=True)
class VictimTraining:
    """How victims are trained; the defaults are the paper's baseline (Huang et al. 2020, §3.2 and §3.5).

    ``network``: a name in ``reference_attacks.networks``. ``epochs``: passes over the training set. ``batch``: images
    of a step of SGD. ``momentum``: 0 for none. ``weight_decay``: of all weights. ``shift``: by how many pixels images
    are moved at most, ``flip``: whether they are mirrored. ``drops``: after which shares of the epochs the learning
    rate is divided by ten; the paper does so after epochs 40, 60 and 80 of 100.
    """

    network: str = "resnet-20"
    epochs: int = 100
    batch: int = 125
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 0.0
    shift: int = 0
    flip: bool = False
    drops: tuple[float, ...] = (0.4, 0.6, 0.8)


def varied(training: VictimTraining, variant: Variant, *, other_network: str) -> VictimTraining:
    """``training`` with one thing changed that the poisoner did not know (§3.5, Figure 5b).

    "batch and rate": twice the batch and the learning rate. "optimiser": plain SGD, or momentum where there is none.
    "regularisation": weight decay and augmentation; the paper does not say how much, this is what is usual for
    CIFAR-10: 5e-4, mirroring, and shifts of up to four pixels. "architecture": ``other_network``.
    """
    if variant == "batch and rate":
        return replace(training, batch=2 * training.batch, learning_rate=2 * training.learning_rate)
    if variant == "optimiser":
        return replace(training, momentum=0.0 if training.momentum else 0.9)
    if variant == "regularisation":
        return replace(training, weight_decay=5e-4, shift=4, flip=True)
    if variant == "architecture":
        return replace(training, network=other_network)
    return training


@dataclass(frozen=True, kw_only=True)
class Replaced:
    """What takes the place of the clean training images at ``indices``, int64 ``(P,)``.

    ``images``: uint8 ``(P, C, H, W)``.
    """

    images: torch.Tensor
    indices: torch.Tensor


def train_victims(
    networks: Sequence[nn.Module],
    clean: ImageSet,
    replaced: Sequence[Replaced | None],
    training: VictimTraining,
    generators: Sequence[torch.Generator],
    *,
    machine: Machine,
    on_epoch: Callable[[int], None] | None = None,
) -> None:
    """Train freshly initialised ``networks`` in place, as one program; on the CPU in evaluation mode when done.

    One network for each entry of ``replaced``, None for the clean images as they are. ``generators`` draw each
    network's batches; images that fill no batch are left out of an epoch. ``on_epoch`` is called after each epoch, with
    its number, while ``networks`` hold their weights of that moment, on the machine's device. Raises ValueError for
    fewer images than fill a batch.
    """
    everything, members = _joined(clean, replaced)
    recipe = Training(
        batch=training.batch, peak_learning_rate=training.learning_rate, shift=training.shift, flip=training.flip
    )
    draws = [
        draw_epochs(everything.labels, seen, recipe, training.epochs, generator)
        for seen, generator in zip(members, generators, strict=True)
    ]
    batches = Batches(everything, draws, [None] * len(networks), recipe, torch.device(machine.device))
    steps = len(batches) // training.epochs
    for network in networks:
        network.to(machine.device)

    def sgd(parameters: Sequence[torch.Tensor]) -> Scheduled:
        optimizer = torch.optim.SGD(
            parameters,
            lr=training.learning_rate,
            momentum=training.momentum,
            weight_decay=training.weight_decay,
            fused=True,
        )
        drops = [steps * round(share * training.epochs) for share in training.drops]
        return [optimizer], [MultiStepLR(optimizer, drops, gamma=0.1)]

    train_group_by(sgd, networks, batches, precision=machine.precision, steps_of_epoch=steps, on_epoch=on_epoch)
    for network in networks:
        network.cpu()


def _joined(clean: ImageSet, replaced: Sequence[Replaced | None]) -> tuple[ImageSet, list[torch.Tensor]]:
    """All images that some network sees, each once, and the indices of those that each of the networks sees."""
    images, labels, start = [clean.images], [clean.labels], len(clean)
    starts: dict[int, int] = {}
    members = []
    for one in replaced:
        seen = torch.arange(len(clean))
        if one is not None:
            if id(one) not in starts:
                starts[id(one)] = start
                images.append(one.images)
                labels.append(clean.labels[one.indices])
                start += len(one.indices)
            seen[one.indices] = torch.arange(len(one.indices)) + starts[id(one)]
        members.append(seen)
    return ImageSet(images=torch.cat(images), labels=torch.cat(labels)), members
