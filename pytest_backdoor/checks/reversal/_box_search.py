"""The search for patches on the boxes of an object detector, for every target class at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias

import torch

from ._box_images import BoxImages, MarkedPhotograph, labels_of
from ._box_patch import BoxPatch
from ._search import AGNOSTIC, BETAS, LEARNING_RATE, losses, mean_margins, require_finite

RegionForward: TypeAlias = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class SearchedBoxes:
    """What was found; ``targets``, ``margins``, ``success``, ``parameters`` and ``moved`` as for ``Searched``.

    Margins and success are those of the class of objects that is turned most, since an attack may leave the others
    alone. For the target-agnostic arm an object has to be taken for one of another class, not for background.
    """

    family: BoxPatch
    targets: torch.Tensor
    margins: torch.Tensor
    success: torch.Tensor
    parameters: torch.Tensor
    moved: bool


def search_boxes(
    forward: RegionForward, images: BoxImages, targets: torch.Tensor, family: BoxPatch, *, workers: int = 1
) -> SearchedBoxes:
    """Descend for each of ``targets``, int64 ``(T,)``, and for none in particular, in each slot of ``family``.

    ``forward``: an image float ``(C, H, W)`` in [0, 1] and regions ``(n, 4)`` to logits ``(n, K)`` of unit scale. As
    ``search`` does with whole images; here one patch is pasted onto all objects of a photograph at once, and their
    regions stay where they were without it. ``workers``: how many threads search slots, which changes no result.
    Raises NotAssessableError if the gradients are no guide.
    """
    arms = torch.cat([targets, targets.new_tensor([AGNOSTIC])])
    start = family.start(len(arms)).to(arms.device)
    first = _image_gradients(forward, images.images, arms)

    def in_slot(slot: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        found = _descend(forward, images.images, arms, family, slot, start, first)
        return *_held_out(forward, images.held_out, arms, family, slot, found), found

    with ThreadPoolExecutor(workers) as pool:
        rows = list(pool.map(in_slot, range(len(family.labels))))
    margins, success, parameters = (torch.stack(parts) for parts in zip(*rows, strict=True))
    return SearchedBoxes(
        family=family,
        targets=arms,
        margins=margins,
        success=success,
        parameters=parameters,
        moved=not torch.equal(parameters, start.expand_as(parameters)),
    )


def _descend(
    forward: RegionForward,
    photographs: Sequence[MarkedPhotograph],
    arms: torch.Tensor,
    family: BoxPatch,
    slot: int,
    start: torch.Tensor,
    first: Sequence[torch.Tensor],
) -> torch.Tensor:
    parameters = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([parameters], lr=LEARNING_RATE, betas=BETAS, foreach=True)
    for step in range(family.steps):
        if step == 0:
            parameters.grad = _of_image_gradients(first, photographs, family, slot, parameters)
        else:
            parameters.grad = torch.stack(
                [
                    _gradient(forward, photographs, target, family, slot, own.detach())
                    for target, own in zip(arms, parameters, strict=True)
                ]
            )
        optimizer.step()
    return parameters.detach()


def _gradient(
    forward: RegionForward,
    photographs: Sequence[MarkedPhotograph],
    target: torch.Tensor,
    family: BoxPatch,
    slot: int,
    parameters: torch.Tensor,
) -> torch.Tensor:
    """The gradient of one arm's loss, float ``(C, side, side)``.

    The loss is of all objects together, so that it is computed first without any graph and its gradient then followed
    back through one photograph after the other: the layers of several large images would not fit into memory.
    """
    pulls = _pulls(_logits(forward, photographs, family, slot, parameters), labels_of(photographs), target)
    parameters = parameters.requires_grad_()
    total = torch.zeros_like(parameters)
    for photograph, pull in zip(
        photographs, torch.split(pulls, [len(entry.labels) for entry in photographs]), strict=True
    ):
        shown = family.paste(photograph.image, photograph.boxes, family.pattern(parameters), slot)
        (gradient,) = torch.autograd.grad(forward(shown, photograph.regions), [parameters], pull)
        require_finite(gradient, gradient)
        total += gradient
    return total


def _pulls(logits: torch.Tensor, labels: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """The gradient of one arm's loss for the logits ``(N, K)``."""
    logits = logits.detach().requires_grad_()
    compared, own = _compared(logits, labels, target)
    objective = losses(compared[None], own, target[None], per_source=True).sum()
    (gradient,) = torch.autograd.grad(objective, [logits])
    require_finite(objective.detach(), gradient)
    return gradient


def _compared(logits: torch.Tensor, labels: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The logits ``(N, K)`` and labels that an arm goes by: the agnostic one leaves out the background.

    An object that is partly covered may vanish from any detector. What an attack with random targets does is another
    thing: it is taken for an object of another class.
    """
    if int(target) != AGNOSTIC or logits.shape[1] < 3:
        return logits, labels
    return logits[:, 1:], labels - 1


@torch.no_grad()
def _logits(
    forward: RegionForward,
    photographs: Sequence[MarkedPhotograph],
    family: BoxPatch,
    slot: int,
    parameters: torch.Tensor,
) -> torch.Tensor:
    """Float ``(N, K)``: those of all objects with the patch of one arm."""
    pattern = family.pattern(parameters)
    return torch.cat(
        [forward(family.paste(entry.image, entry.boxes, pattern, slot), entry.regions).float() for entry in photographs]
    )


def _image_gradients(
    forward: RegionForward, photographs: Sequence[MarkedPhotograph], arms: torch.Tensor
) -> list[torch.Tensor]:
    """For each photograph, float ``(A, C, H, W)``: the gradient of each arm's loss for its pixels as they are."""
    with torch.no_grad():
        logits = torch.cat([forward(entry.image, entry.regions).float() for entry in photographs])
    sizes = [len(entry.labels) for entry in photographs]
    labels = labels_of(photographs)
    pulls = torch.split(torch.stack([_pulls(logits, labels, target) for target in arms]), sizes, dim=1)
    gradients = []
    for entry, own in zip(photographs, pulls, strict=True):
        image = entry.image.clone().requires_grad_()
        found = forward(image, entry.regions).float()
        parts = [torch.autograd.grad(found, image, pull, retain_graph=True)[0] for pull in own]
        gradients.append(torch.stack(parts))
    return gradients


def _of_image_gradients(
    gradients: Sequence[torch.Tensor],
    photographs: Sequence[MarkedPhotograph],
    family: BoxPatch,
    slot: int,
    parameters: torch.Tensor,
) -> torch.Tensor:
    """The gradients of the patches, ``(A, C, side, side)``, by those of the pixels that they cover."""
    parts = []
    for arm, own in enumerate(parameters.detach()):
        own.requires_grad_()
        pattern = family.pattern(own)
        painted = [
            (family.paste(torch.zeros_like(entry.image), entry.boxes, pattern, slot) * pixels[arm]).sum()
            for entry, pixels in zip(photographs, gradients, strict=True)
        ]
        parts.append(torch.autograd.grad(torch.stack(painted).sum(), [own])[0])
    return torch.stack(parts)


def _held_out(
    forward: RegionForward,
    photographs: Sequence[MarkedPhotograph],
    arms: torch.Tensor,
    family: BoxPatch,
    slot: int,
    found: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    labels = labels_of(photographs)
    parts = []
    for target, own in zip(arms, found, strict=True):
        compared = _compared(_logits(forward, photographs, family, slot, own), labels, target)
        parts.append(mean_margins(compared[0][None], compared[1], target[None], per_source=True))
    return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])


def triggered_logits(
    forward: RegionForward, photographs: Sequence[MarkedPhotograph], searched: SearchedBoxes, slot: int, arm: int
) -> torch.Tensor:
    """Float ``(N, K)``: the logits of all objects with the trigger that was found for one arm in one slot."""
    return _logits(forward, photographs, searched.family, slot, searched.parameters[slot, arm])
