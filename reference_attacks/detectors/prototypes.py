"""Prototype images: what all networks of a task take for each class, by which a pack knows its own task."""

from __future__ import annotations

import torch
from torch.nn.functional import cross_entropy, interpolate

from ..zoo.store import NetworkStack
from .litmus import total_variation

STEPS = 100
NETWORKS = 40
SMOOTHNESS = 5.0
TOLERANCE = 2


def fit_prototypes(stack: NetworkStack, input_shape: tuple[int, int, int], seed: int) -> torch.Tensor:
    """One image for each class, float ``(K, C, H, W)`` in [0, 1], that the networks of ``stack`` agree upon.

    Each starts as a dark, smooth random texture and follows the mean cross-entropy of at most 40 networks. What so
    many networks agree upon is a property of their task: networks that were in no part of this recognise it too.
    """
    generator = torch.Generator().manual_seed(seed)
    networks = stack.select(torch.arange(min(NETWORKS, len(stack))))
    classes = networks.logits(torch.zeros(1, *input_shape)).shape[-1]
    coarse = torch.rand(classes, input_shape[0], 7, 7, generator=generator)
    texture = 0.02 + 0.3 * (interpolate(coarse, size=input_shape[1:], mode="bilinear") - 0.5)
    parameters = torch.logit(texture.clamp(0.01, 0.99)).requires_grad_()
    optimizer = torch.optim.Adam([parameters], lr=0.2)
    wanted = torch.arange(classes).repeat(len(networks))
    for _ in range(STEPS):
        images = torch.sigmoid(parameters)
        loss = cross_entropy(networks.logits(images).flatten(0, 1), wanted) + SMOOTHNESS * total_variation(images)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return torch.sigmoid(parameters.detach())


@torch.no_grad()
def recognised_prototypes(prototypes: torch.Tensor, stack: NetworkStack) -> torch.Tensor:
    """Float ``(N,)``: how many prototypes each network takes for their class."""
    predicted = stack.logits(prototypes).argmax(-1)
    return (predicted == torch.arange(len(prototypes))).float().sum(1)


def least_recognised(recognised: torch.Tensor, classes: int) -> int:
    """What a model must recognise: two fewer than the worst calibration network, but at least half of the classes."""
    return max(-(-classes // 2), int(recognised.min()) - TOLERANCE)
