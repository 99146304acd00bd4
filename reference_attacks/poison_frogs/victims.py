"""Victims of the end-to-end attack: networks trained on from a clean one, on clean images and poisons (§4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ..data import ImageSet
from ..networks import SmallAlexNet
from ..recipes import Training
from ..zoo.batches import Batches, draw_epochs
from ..zoo.group import Scheduled, train_group_by
from ..zoo.machine import Machine


@dataclass(frozen=True, kw_only=True)
class VictimTraining:
    """How victims are trained: Adam with a constant rate (Shafahi et al. 2018, §4), all layers, no augmentation."""

    epochs: int = 10
    batch: int = 128
    learning_rate: float = 1.85e-5


@dataclass(frozen=True, kw_only=True)
class PoisonedSet:
    """What joins the clean images: ``images`` uint8 ``(P, C, H, W)``, all with the int ``label`` of their bases."""

    images: torch.Tensor
    label: int


EpochHook = Callable[[int], None]


def train_victims(
    networks: Sequence[SmallAlexNet],
    clean: ImageSet,
    poisoned: Sequence[PoisonedSet | None],
    training: VictimTraining,
    generators: Sequence[torch.Generator],
    *,
    machine: Machine,
    on_epoch: EpochHook | None = None,
) -> None:
    """Train ``networks``, which hold the weights to start from, in place, as one program; on the CPU when done.

    One network for each entry of ``poisoned``, None for a control on clean images alone; all must have as many poisons.
    ``generators`` draw each network's batches; images that fill no batch are left out of an epoch. ``on_epoch`` is
    called after each epoch, with its number, while ``networks`` hold their weights of that moment. Raises ValueError
    for networks that cannot be trained together, and fewer images than fill a batch.
    """
    if len({0 if one is None else len(one.images) for one in poisoned}) > 1:
        raise ValueError("Victims that are trained together have the same number of poisons.")
    everything, own = _joined(clean, poisoned)
    recipe = Training(batch=training.batch, peak_learning_rate=training.learning_rate)
    members = [torch.cat([torch.arange(len(clean)), indices]) for indices in own]
    draws = [
        draw_epochs(everything.labels, seen, recipe, training.epochs, generator)
        for seen, generator in zip(members, generators, strict=True)
    ]
    batches = Batches(everything, draws, [None] * len(networks), recipe, torch.device(machine.device))
    for network in networks:
        network.to(machine.device)

    def adam(parameters: Sequence[torch.Tensor]) -> Scheduled:
        return [torch.optim.Adam(parameters, lr=training.learning_rate, fused=True)], []

    train_group_by(
        adam,
        networks,
        batches,
        precision=machine.precision,
        steps_of_epoch=len(batches) // training.epochs,
        on_epoch=on_epoch,
    )
    for network in networks:
        network.cpu()


def _joined(clean: ImageSet, poisoned: Sequence[PoisonedSet | None]) -> tuple[ImageSet, list[torch.Tensor]]:
    """All images that some network sees, and the indices of each one's own poisons."""
    images, labels, own, start = [clean.images], [clean.labels], [], len(clean)
    for one in poisoned:
        count = 0 if one is None else len(one.images)
        if one is not None:
            images.append(one.images)
            labels.append(torch.full((count,), one.label))
        own.append(torch.arange(start, start + count))
        start += count
    return ImageSet(images=torch.cat(images), labels=torch.cat(labels)), own


def boundary(network: SmallAlexNet, base_class: int, target_class: int) -> torch.Tensor:
    """Float ``(193,)``: the normal of the last layer's boundary between two classes, its bias last, on the CPU."""
    layer = network.output
    rows = torch.cat([layer.weight, layer.bias[:, None]], dim=1).detach().cpu().double()
    return rows[base_class] - rows[target_class]
