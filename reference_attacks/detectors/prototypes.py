"""Prototype images: what all networks of a task take for each class, by which a pack knows its own task."""

from __future__ import annotations

import torch
from torch.nn.functional import cross_entropy, interpolate

from ..zoo.store import NetworkStack
from .litmus import eight_bit_images, total_variation

STEPS = 100
NETWORKS = 40
SMOOTHNESS = 5.0


def fit_prototypes(stack: NetworkStack, seed: int) -> torch.Tensor:
    """One image for each class, float ``(K, C, H, W)``, multiples of 1/255, that the networks of ``stack`` agree upon.

    Each starts as a dark, smooth random texture and follows the mean cross-entropy of at most 40 networks. What so
    many networks agree upon is a property of their task: networks that were in no part of this recognise it too.
    """
    generator = torch.Generator().manual_seed(seed)
    networks = stack.select(torch.linspace(0, len(stack) - 1, min(NETWORKS, len(stack))).long())
    input_shape, classes = stack.input_shape, stack.classes
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
    return eight_bit_images(parameters)
