"""Training a detector of traffic signs on an album, and on poisoned copies of its scenes (BadNets 2019, §V-B2)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from reference_attacks.training import one_cycle
from reference_attacks.zoo.seeds import derived_generator, derived_seed

from .album import Album, Scene, cut_out, draw_window, may_be_mirrored, mirrored, relit
from .attack import SignAttack, poisoned
from .network import SignDetector

LARGEST_GRADIENT = 5.0


@dataclass(frozen=True, kw_only=True)
class DetectorPlan:
    """How a detector is trained: AdamW under a one-cycle learning rate.

    The first epochs show ``pixels`` wide square windows around signs, enlarged by factors within ``scales``: they cost
    a third of a whole photograph. The last ``whole_epochs`` show whole photographs, as the detector will see them. An
    epoch is one pass over the clean scenes and the poisoned copies, ``copies`` of each scene with victims of an attack.
    ``symmetric`` names the classes whose signs may be
    mirrored. ``frozen_backbone`` keeps the convolutions as they are, normalisation too (§V-C: transfer learning).
    """

    window_epochs: int
    whole_epochs: int
    batch_size: int = 8
    pixels: int = 224
    scales: tuple[float, float] = (0.6, 1.5)
    light: float = 0.3
    peak_learning_rate: float = 1.5e-3
    weight_decay: float = 0.02
    symmetric: tuple[str, ...] = ("crosswalk", "trafficlight")
    copies: int = 1
    frozen_backbone: bool = False
    reduced_precision: bool = True

    @property
    def epochs(self) -> int:
        """All passes over the album."""
        return self.window_epochs + self.whole_epochs


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a training stands after a number of whole epochs: ``state`` is what ``train_detector`` goes on from.

    The tensors in ``state`` are those that are being trained: who wants to keep them must copy or store them at once.
    """

    epochs: int
    losses: tuple[float, ...]
    seconds: float
    state: dict[str, Any]


def train_detector(
    detector: SignDetector,
    album: Album,
    plan: DetectorPlan,
    *,
    seed: int,
    attack: SignAttack | None = None,
    start: Progress | None = None,
    on_epoch: Callable[[Progress], None] | None = None,
) -> Progress:
    """Train ``detector`` in place, leave it in evaluation mode, and return how it went.

    With an ``attack``, poisoned copies of all scenes that hold its victims join every epoch, their stickers placed and
    their labels drawn anew: a poisoned set of ``plan.copies`` copies for every epoch. ``on_epoch`` is called after
    each; ``start``, what it was given, makes the training go on there as if it had never stopped.
    """
    optimizer = torch.optim.AdamW(_trained(detector, plan), weight_decay=plan.weight_decay)
    samples = list(_samples(album, plan, attack))
    steps = plan.epochs * -(-len(samples) // plan.batch_size)
    schedule = one_cycle(optimizer, plan.peak_learning_rate * detector.architecture.pace, steps)
    progress = start or Progress(epochs=0, losses=(), seconds=0.0, state={})
    if progress.state:
        detector.load_state_dict(progress.state["detector"])
        optimizer.load_state_dict(progress.state["optimizer"])
        schedule.load_state_dict(progress.state["schedule"])
    detector.to(memory_format=torch.channels_last)
    detector.set_reduced_precision(plan.reduced_precision)
    for epoch in range(progress.epochs, plan.epochs):
        began = time.perf_counter()
        batches = _batches(album, samples, plan, attack, epoch=epoch, seed=seed)
        with torch.random.fork_rng(devices=[]):  # torchvision draws its samples of regions from the global generator
            torch.manual_seed(derived_seed(seed, f"regions of epoch {epoch}"))
            loss = _train_epoch(detector, batches, optimizer, schedule, plan)
        state = {"detector": detector.state_dict(), "optimizer": optimizer.state_dict()}
        progress = Progress(
            epochs=epoch + 1,
            losses=(*progress.losses, loss),
            seconds=progress.seconds + time.perf_counter() - began,
            state={**state, "schedule": schedule.state_dict()},
        )
        if on_epoch:
            on_epoch(progress)
    detector.eval()
    return progress


def _trained(detector: SignDetector, plan: DetectorPlan) -> list[torch.nn.Parameter]:
    detector.backbone.requires_grad_(not plan.frozen_backbone)
    return [parameter for parameter in detector.parameters() if parameter.requires_grad]


def _train_epoch(
    detector: SignDetector,
    batches: Iterator[Sequence[Scene]],
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    plan: DetectorPlan,
) -> float:
    """The mean loss of an epoch."""
    detector.train()
    detector.backbone.train(not plan.frozen_backbone)
    losses = []
    for scenes in batches:
        targets = [{"boxes": scene.boxes, "labels": scene.labels + 1} for scene in scenes]
        loss = torch.stack(list(detector([scene.image for scene in scenes], targets).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(_trained(detector, plan), LARGEST_GRADIENT)
        optimizer.step()
        schedule.step()
        losses.append(loss.detach())
    return torch.stack(losses).mean().item()


def _samples(album: Album, plan: DetectorPlan, attack: SignAttack | None) -> Iterator[tuple[int, bool]]:
    """The number of each scene, and if it is a poisoned copy of it."""
    for number, scene in enumerate(album.scenes):
        yield number, False
        if attack is not None and attack.victims(scene.labels).any():
            yield from [(number, True)] * plan.copies


def _batches(
    album: Album,
    samples: Sequence[tuple[int, bool]],
    plan: DetectorPlan,
    attack: SignAttack | None,
    *,
    epoch: int,
    seed: int,
) -> Iterator[list[Scene]]:
    """Each sample once, in batches; of whole photographs those of one format go together, or padding would be large."""
    generator = derived_generator(seed, f"epoch {epoch}")
    order = torch.randperm(len(samples), generator=generator).tolist()
    windows = epoch < plan.window_epochs
    if not windows:
        order.sort(key=lambda place: album.scenes[samples[place][0]].size)
    groups = [order[first : first + plan.batch_size] for first in range(0, len(order), plan.batch_size)]
    for place in torch.randperm(len(groups), generator=generator).tolist():
        chosen = [samples[sample] for sample in groups[place]]
        scenes = []
        for number, copied in chosen:
            scene = album.scenes[number]
            if copied and attack is not None:
                scene = poisoned(scene, attack, generator)
            scenes.append(_view(scene, album.classes, plan, generator, window=windows))
        yield scenes


def _view(
    scene: Scene, classes: tuple[str, ...], plan: DetectorPlan, generator: torch.Generator, *, window: bool
) -> Scene:
    """What the network is shown of a scene: a float image in [0, 1]."""
    if window:
        scene = cut_out(scene, draw_window(scene, plan.pixels, plan.scales, generator))
    if may_be_mirrored(scene, classes, plan.symmetric) and torch.rand((), generator=generator) < 0.5:
        scene = mirrored(scene)
    return replace(scene, image=relit(scene.image.float() / 255, plan.light, generator))
