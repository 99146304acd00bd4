"""How a pack knows networks that it can judge: by their answers to the patterns and to one image for each class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy, interpolate

from pytest_backdoor.calibration import pattern_template, prototype_template

from ..zoo.store import NetworkStack
from .litmus import answers, eight_bit_images, total_variation

STEPS = 100
NETWORKS = 40
SMOOTHNESS = 5.0


@dataclass(frozen=True, kw_only=True)
class TaskTemplates:
    """The fields of a detector pack of the same names, of patterns float ``(M, C, H, W)``."""

    patterns: torch.Tensor
    pattern_template: np.ndarray[Any, Any]
    sure_similarity: float
    prototypes: torch.Tensor
    prototype_template: np.ndarray[Any, Any]
    least_similarity: float

    def recognised(self, stack: NetworkStack) -> np.ndarray[Any, Any]:
        """Bool ``(N,)``: which networks the litmus check would judge (``checks.litmus.choose_pack``)."""
        sure = _flat_answers(self.patterns, stack) @ self.pattern_template >= self.sure_similarity
        alike = _flat_answers(self.prototypes, stack) @ self.prototype_template >= self.least_similarity
        recognised: np.ndarray[Any, Any] = sure | alike
        return recognised


def make_templates(
    patterns: torch.Tensor, clean_fit: NetworkStack, calibration: NetworkStack, seed: int
) -> TaskTemplates:
    """Prototypes that the networks of ``clean_fit`` agree upon, and what those of ``calibration`` answer.

    Raises ValueError if the clean networks have too little in common to tell their task.
    """
    prototypes = fit_prototypes(clean_fit, seed)
    pattern_answer, sure = pattern_template(_flat_answers(patterns, calibration))
    prototype_answer, least = prototype_template(_flat_answers(prototypes, calibration))
    return TaskTemplates(
        patterns=patterns,
        pattern_template=pattern_answer,
        sure_similarity=sure,
        prototypes=prototypes,
        prototype_template=prototype_answer,
        least_similarity=least,
    )


@torch.no_grad()
def _flat_answers(images: torch.Tensor, stack: NetworkStack) -> np.ndarray[Any, Any]:
    """Float ``(N, M·K)``: the features of every network's logits on M images."""
    features: np.ndarray[Any, Any] = answers(stack, images).flatten(1).numpy()
    return features


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
