"""One set of litmus patterns for several tasks, which a task that was in no part of the fit measures by clean networks.

Patterns and class-symmetric classifier (``SymmetricClassifier``) hold nothing about a task but what its clean networks
answer. So a new task needs clean networks of its own, which are cheap, but no poisoned ones. Not in Universal Litmus
Patterns.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from ..zoo.store import NetworkStack
from .classifiers import SymmetricClassifier
from .invariant import PATTERN_SHAPE, fitted_to
from .litmus import FittedLitmus, PatternPlan, answers, balanced_batches, eight_bit_images, total_variation


@dataclass(frozen=True, kw_only=True)
class SharedLitmus:
    """``patterns``: float ``(M, 3, 32, 32)``, multiples of 1/255. ``classifier``: its weights for all tasks."""

    patterns: torch.Tensor
    classifier: SymmetricClassifier

    @torch.no_grad()
    def for_task(self, clean: NetworkStack) -> FittedLitmus:
        """The detector of one task, which measures by ``clean``: two or more clean networks of it."""
        images = fitted_to(self.patterns, clean.input_shape)
        return FittedLitmus(patterns=images, classifier=self.classifier.finished(answers(clean, images)))


def fit_shared(fit: Sequence[NetworkStack], validation: Sequence[NetworkStack], plan: PatternPlan) -> SharedLitmus:
    """Patterns for all tasks; of all epochs the one with the best loss on ``validation`` is kept.

    ``fit`` and ``validation`` hold one stack for each task, in the same order. The loss of a task does not depend on
    how large its zoo is.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        generator = torch.Generator().manual_seed(plan.seed)
        parameters = torch.randn(plan.patterns, *PATTERN_SHAPE, generator=generator).requires_grad_()
        classifier = SymmetricClassifier("symmetric-max", plan.patterns)
        optimizer = torch.optim.Adam(
            [
                {"params": [parameters], "lr": plan.pattern_rate},
                {"params": list(classifier.parameters()), "lr": plan.classifier_rate * classifier.rate_factor},
            ]
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, plan.epochs)
        best, best_loss = None, float("inf")
        for _ in range(plan.epochs):
            for stacks in _together(fit, plan, generator):
                optimizer.zero_grad()
                _loss(stacks, parameters, classifier, plan).backward()
                optimizer.step()
            schedule.step()
            candidate = SharedLitmus(patterns=eight_bit_images(parameters), classifier=deepcopy(classifier))
            held_out = sum(
                binary_cross_entropy_with_logits(
                    candidate.for_task(known.clean).scores(unseen), unseen.poisoned.float()
                ).item()
                for known, unseen in zip(fit, validation, strict=True)
            )
            if held_out < best_loss:
                best, best_loss = candidate, held_out
    assert best is not None
    return best


def _together(fit: Sequence[NetworkStack], plan: PatternPlan, generator: torch.Generator) -> list[list[NetworkStack]]:
    """The steps of one epoch: a batch of each task, those of smaller zoos again and again."""
    batches = [balanced_batches(stack.poisoned, plan.batch, generator) for stack in fit]
    steps = max(len(parts) for parts in batches)
    return [
        [stack.select(parts[step % len(parts)]) for stack, parts in zip(fit, batches, strict=True)]
        for step in range(steps)
    ]


def _loss(
    stacks: Sequence[NetworkStack], parameters: torch.Tensor, classifier: SymmetricClassifier, plan: PatternPlan
) -> torch.Tensor:
    patterns = torch.sigmoid(parameters)
    losses = []
    for stack in stacks:
        features = answers(stack, fitted_to(patterns, stack.input_shape), dropout=plan.dropout)
        scores = classifier(features, stack.poisoned)
        losses.append(binary_cross_entropy_with_logits(scores, stack.poisoned.float()))
    decay = plan.weight_decay * classifier.weights.square().mean()
    return torch.stack(losses).mean() + decay + plan.total_variation * total_variation(patterns)
