"""The batches of a group of networks: images stay on the device; shifts, mirroring and triggers are applied there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..data import ImageSet
from ..overlays import Overlay
from ..recipes import Training
from .recipe import Backdoor

ALL_CLASSES_SHARE = 0.2


@dataclass(frozen=True, kw_only=True)
class Poison:
    """Backdoored copies that join a training set.

    ``victims``: int64 ``(m,)``, indices of the clean images that are copied. ``labels``: int64 ``(m,)``, what the
    attacker calls them. ``overlay``: the trigger.
    """

    victims: torch.Tensor
    labels: torch.Tensor
    overlay: Overlay


def choose_poison(
    backdoor: Backdoor, overlay: Overlay, labels: torch.Tensor, classes: int, generator: torch.Generator
) -> Poison:
    """The copies of one network, of ``labels`` int64 ``(N,)`` of the clean training set.

    ``ratio`` is the share of backdoored images among the images of the source class; 0.5 copies every one. The paper
    says only "the ratio of the number of poisoned to clean images" (Universal Litmus Patterns, §4.1); this reading is
    that of the authors' published scripts. Where every class is a source, it is a fifth of all images at 0.5.
    """
    share = backdoor.ratio / (1 - backdoor.ratio)
    attack = backdoor.attack(classes)
    candidates = attack.victims(labels).nonzero()[:, 0]
    attacked = len(candidates) if backdoor.source is not None else len(labels) * ALL_CLASSES_SHARE
    count = min(len(candidates), max(1, round(attacked * share)))
    victims = candidates[torch.randperm(len(candidates), generator=generator)[:count]]
    return Poison(victims=victims, labels=attack.poisoned_labels(labels[victims]), overlay=overlay)


@dataclass(frozen=True, kw_only=True)
class Draws:
    """Everything random about one network's batches: S steps of B images.

    ``images``: int64 ``(S, B)``, indices of clean images. ``labels``: int64 ``(S, B)``. ``triggered``: bool ``(S, B)``.
    ``places``: int64 ``(S, B)``, where triggers lie. ``moves``: int64 ``(S, B, 2)``, offsets into the image
    with ``training.shift`` more pixels on each side.
    ``mirrored``: bool ``(S, B)``.
    """

    images: torch.Tensor
    labels: torch.Tensor
    triggered: torch.Tensor
    places: torch.Tensor
    moves: torch.Tensor
    mirrored: torch.Tensor


def draw_batches(
    labels: torch.Tensor, poison: Poison | None, training: Training, steps: int, generator: torch.Generator
) -> Draws:
    """The batches of one network: passes over clean images and copies in random orders, one after the other."""
    nothing = labels.new_empty(0)
    victims, wanted, places = (
        (nothing, nothing, 1) if poison is None else (poison.victims, poison.labels, len(poison.overlay))
    )
    clean, copies = len(labels), len(victims)
    shape = (steps, training.batch)
    passes = -(-steps * training.batch // (clean + copies))
    orders = torch.cat([torch.randperm(clean + copies, generator=generator) for _ in range(passes)])
    chosen = orders[: steps * training.batch].view(shape)
    return Draws(
        images=torch.cat([torch.arange(clean), victims])[chosen],
        labels=torch.cat([labels, wanted])[chosen],
        triggered=chosen >= clean,
        # Clean networks draw places too, so that both kinds use their generators alike.
        places=torch.randint(places, shape, generator=generator),
        moves=torch.randint(2 * training.shift + 1, (*shape, 2), generator=generator),
        mirrored=(torch.rand(shape, generator=generator) < 0.5) & training.flip,
    )


def draw_epochs(
    labels: torch.Tensor, members: torch.Tensor, training: Training, epochs: int, generator: torch.Generator
) -> Draws:
    """Passes over the images at ``members``, int64 ``(n,)``, in random orders; what fills no batch is left out of each.

    ``labels``: int64 ``(N,)`` of all images. Nothing is triggered. Raises ValueError for fewer members than a batch.
    """
    seen = len(members) // training.batch * training.batch
    if not seen:
        raise ValueError(f"{len(members)} training images are fewer than the {training.batch} of a batch.")
    orders = [torch.randperm(len(members), generator=generator)[:seen] for _ in range(epochs)]
    chosen = members[torch.cat(orders)].view(-1, training.batch)
    nothing = torch.zeros_like(chosen)
    return Draws(
        images=chosen,
        labels=labels[chosen],
        triggered=nothing.bool(),
        places=nothing,
        moves=torch.randint(2 * training.shift + 1, (*chosen.shape, 2), generator=generator),
        mirrored=(torch.rand(chosen.shape, generator=generator) < 0.5) & training.flip,
    )


class Batches:
    """The batches of a group of G networks, assembled on one device.

    ``data``: the clean training images, shared by all. The group's batch of step s has G·B images, those of the first
    network first.
    """

    def __init__(
        self,
        data: ImageSet,
        draws: Sequence[Draws],
        overlays: Sequence[Overlay | None],
        training: Training,
        device: torch.device,
    ) -> None:
        self._training = training
        self._size = data.images.shape[-2:]
        self._images = data.images.permute(0, 2, 3, 1).contiguous().to(device)
        stacked = {
            name: torch.cat([getattr(draw, name) for draw in draws], dim=1)
            for name in ("images", "labels", "triggered", "places", "moves", "mirrored")
        }
        self._chosen = stacked["images"].to(device)
        self._labels = stacked["labels"].to(device)
        self._moves = stacked["moves"].to(device)
        self._mirrored = stacked["mirrored"].to(device)
        self._place_triggers(stacked["triggered"], self._absolute_places(stacked["places"], overlays), overlays, device)

    def _absolute_places(self, places: torch.Tensor, overlays: Sequence[Overlay | None]) -> torch.Tensor:
        """Places of all networks' overlays, counted through as in their concatenation."""
        counts = torch.tensor([0, *(len(overlay) if overlay else 0 for overlay in overlays)])
        return places + counts.cumsum(0)[:-1].repeat_interleave(self._training.batch)

    def _place_triggers(
        self,
        triggered: torch.Tensor,
        places: torch.Tensor,
        overlays: Sequence[Overlay | None],
        device: torch.device,
    ) -> None:
        """Keep the positions of triggered images step by step, known on the host so that no step waits for a device."""
        present = [overlay for overlay in overlays if overlay is not None]
        self._ends = triggered.sum(1).cumsum(0).tolist()
        self._positions = triggered.nonzero()[:, 1].to(device)
        self._places = places[triggered].to(device)
        self._overlay = (
            Overlay(
                keep=torch.cat([overlay.keep for overlay in present]).to(device),
                add=torch.cat([overlay.add for overlay in present]).to(device),
            )
            if present
            else None
        )

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Float images ``(G·B, C, H, W)`` in [0, 1], channels last in memory, and int64 labels ``(G·B,)``."""
        images = self._gathered(step).permute(0, 3, 1, 2).float().div_(255)
        start, end = self._ends[step - 1] if step else 0, self._ends[step]
        if self._overlay is not None and end > start:
            positions = self._positions[start:end]
            images[positions] = self._overlay.apply(images[positions], self._places[start:end])
        return images, self._labels[step]

    def _gathered(self, step: int) -> torch.Tensor:
        """Uint8 ``(G·B, H, W, C)``: the step's images, shifted and mirrored."""
        chosen = self._chosen[step]
        if not self._training.shift and not self._training.flip:
            return self._images[chosen]
        height, width = self._size
        moves = self._moves[step] - self._training.shift
        rows = torch.arange(height, device=chosen.device) + moves[:, :1]
        columns = torch.arange(width, device=chosen.device).expand(len(chosen), width)
        columns = torch.where(self._mirrored[step, :, None], columns.flip(1), columns) + moves[:, 1:]
        # What lies outside is the nearest pixel of the border.
        rows, columns = rows.clamp_(0, height - 1), columns.clamp_(0, width - 1)
        return self._images[chosen[:, None, None], rows[:, :, None], columns[:, None, :]]
