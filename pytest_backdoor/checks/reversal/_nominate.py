"""Which targets to search where a network has too many classes to search them all."""

from __future__ import annotations

import torch

from ._families import Patch
from ._images import ReversalImages
from ._score import MOST_TARGETS
from ._search import AGNOSTIC, Forward, descend, image_gradient
from ._ways import fitting_way

NOMINATED = 24
SCREEN_IMAGES = 4


def targets_to_search(
    forward: Forward, images: ReversalImages, classes: int, patch: Patch, generator: torch.Generator
) -> torch.Tensor:
    """Int64 ``(T,)``: all classes where they are at most MOST_TARGETS, else NOMINATED of them in ascending order.

    Half are the classes that the best target-agnostic patch of each window turns images into, the most frequent first:
    a universal trigger with a target is also one that makes images leave their class. The others are those whose logit
    has the steepest gradient within one window, compared with that of other classes in the same window.
    """
    device = images.images.device
    if classes <= MOST_TARGETS:
        return torch.arange(classes, device=device)
    fallen = _fallen_into(forward, images, classes, patch, generator)
    steep = _steepest(forward, images, classes, patch)
    order = torch.cat([fallen.argsort(descending=True)[: NOMINATED // 2], steep.argsort(descending=True)])
    chosen = list(dict.fromkeys(order.tolist()))[:NOMINATED]
    return torch.tensor(sorted(chosen), device=device)


def _fallen_into(
    forward: Forward, images: ReversalImages, classes: int, patch: Patch, generator: torch.Generator
) -> torch.Tensor:
    """Float ``(K,)``: the share of images that an agnostic patch turns into each class, in the best window for it."""
    agnostic = torch.tensor([AGNOSTIC], device=images.images.device)
    start = patch.start(1, generator).to(images.images.device)
    way = fitting_way(forward, images.images, patch, start)
    first = image_gradient(forward, images, agnostic, patch, way)
    shares = []
    for slot in range(len(patch.labels)):
        found = descend(forward, images, agnostic, patch, slot, start, first, way=way)
        with torch.no_grad():
            predicted = forward(patch.apply(images.held_out, found, slot)[0]).argmax(1)
        left = predicted[predicted != images.held_out_labels]
        shares.append(torch.bincount(left, minlength=classes).float() / len(predicted))
    return torch.stack(shares).amax(0)


def _steepest(forward: Forward, images: ReversalImages, classes: int, patch: Patch) -> torch.Tensor:
    """Float ``(K,)``: each class's gradient in the window where it stands out most, in units of the window's median."""
    shown = images.images[:SCREEN_IMAGES].clone().requires_grad_()
    logits = forward(shown).float().log_softmax(-1).mean(0)
    rows = []
    for target in range(classes):
        (gradient,) = torch.autograd.grad(logits[target], shown, retain_graph=target + 1 < classes)
        strength = gradient.mean(0).abs().sum(0)
        windows = [(strength * patch.mask(strength, slot)[0]).sum() for slot in range(len(patch.labels))]
        rows.append(torch.stack(windows))
    table = torch.stack(rows)
    return (table / table.median(dim=0).values.clamp(min=1e-12)).amax(1)
