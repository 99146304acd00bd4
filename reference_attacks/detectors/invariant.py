"""A detector that depends on neither the number of classes nor their order, so that it can meet a task it never saw.

The patterns are 32x32 colour images, resized and turned grey for networks that want something else. Their logits are
standardised for each network and described by what does not change when classes are renamed: sorted logits at fixed
quantiles, and how alike two patterns' logits are. Not in Universal Litmus Patterns, whose features tie a detector to
one task.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, interpolate

from ..zoo.store import NetworkStack
from .litmus import PatternPlan, total_variation

PATTERN_SHAPE = (3, 32, 32)
QUANTILES = 8


@dataclass(frozen=True, kw_only=True)
class InvariantPlan(PatternPlan):
    """How the detector is fitted. ``hidden``: units of the classifier's hidden layer."""

    hidden: int = 32
    classifier_rate: float = 3e-3


@dataclass(frozen=True, kw_only=True)
class FittedInvariant:
    """``patterns``: float ``(M, 3, 32, 32)`` in [0, 1]. ``classifier``: from features to log-odds."""

    patterns: torch.Tensor
    classifier: nn.Module

    @torch.no_grad()
    def scores(self, stack: NetworkStack) -> torch.Tensor:
        """Float ``(N,)``: the log-odds that each network is backdoored."""
        logits = stack.logits(fitted_to(self.patterns, stack.input_shape))
        scores: torch.Tensor = self.classifier(invariant_features(logits))[:, 0]
        return scores


def fitted_to(patterns: torch.Tensor, input_shape: tuple[int, int, int]) -> torch.Tensor:
    """``patterns`` ``(M, 3, 32, 32)`` as images of ``input_shape``: grey if it has one channel, resized if need be."""
    channels, height, width = input_shape
    if channels == 1:
        patterns = patterns.mean(1, keepdim=True)
    if patterns.shape[-2:] != (height, width):
        patterns = interpolate(patterns, size=(height, width), mode="bilinear", antialias=True)
    return patterns


def invariant_features(logits: torch.Tensor) -> torch.Tensor:
    """Float ``(N, F)`` of logits ``(N, M, K)``; F depends on M alone, and no renaming of classes changes a value."""
    centred = logits - logits.mean(2, keepdim=True)
    standard = centred / (centred.square().mean((1, 2), keepdim=True).sqrt() + 1e-12)
    each = _at_quantiles(standard).flatten(1)
    together = torch.cat([_at_quantiles(standard.mean(1)), _at_quantiles(standard.amax(1))], 1)
    return torch.cat([each, together, _similarities(standard)], 1)


def _at_quantiles(values: torch.Tensor) -> torch.Tensor:
    """Sorted ``values`` ``(..., K)`` read at evenly spaced quantiles, ``(..., QUANTILES)``."""
    ordered = values.sort(-1).values
    places = torch.linspace(0, values.shape[-1] - 1, QUANTILES)
    below = places.floor().long()
    above = places.ceil().long()
    share = places - below
    return ordered[..., below] * (1 - share) + ordered[..., above] * share


def _similarities(standard: torch.Tensor) -> torch.Tensor:
    """Cosines between the logits of each two patterns, ``(N, M(M-1)/2)``."""
    directions = standard / (standard.norm(dim=2, keepdim=True) + 1e-12)
    cosines = directions @ directions.transpose(1, 2)
    first, second = torch.triu_indices(standard.shape[1], standard.shape[1], offset=1)
    return cosines[:, first, second]


def fit_invariant(
    fit: Sequence[NetworkStack], validation: Sequence[NetworkStack], plan: InvariantPlan
) -> FittedInvariant:
    """One detector for all tasks: ``fit`` and ``validation`` hold one stack for each task.

    Every step takes a batch of networks of each task, so that a task with a larger zoo has no more say.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        parameters = torch.randn(plan.patterns, *PATTERN_SHAPE).requires_grad_()
        features = plan.patterns * QUANTILES + 2 * QUANTILES + plan.patterns * (plan.patterns - 1) // 2
        classifier = nn.Sequential(
            nn.BatchNorm1d(features),
            nn.Linear(features, plan.hidden),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(plan.hidden, 1),
        )
        optimizer = torch.optim.AdamW(
            [
                {"params": [parameters], "lr": plan.pattern_rate, "weight_decay": 0.0},
                {"params": classifier.parameters(), "lr": plan.classifier_rate, "weight_decay": plan.weight_decay},
            ]
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, plan.epochs)
        best: FittedInvariant | None = None
        best_loss = float("inf")
        steps = max(-(-len(stack) // plan.batch) for stack in fit)
        for _ in range(plan.epochs):
            classifier.train()
            for _ in range(steps):
                optimizer.zero_grad()
                _batch_loss(fit, parameters, classifier, plan).backward()
                optimizer.step()
            schedule.step()
            classifier.eval()
            candidate = FittedInvariant(patterns=torch.sigmoid(parameters.detach()).clone(), classifier=classifier)
            held_out = sum(
                binary_cross_entropy_with_logits(candidate.scores(stack), stack.poisoned.float()).item()
                for stack in validation
            )
            if held_out < best_loss:
                best, best_loss = replace(candidate, classifier=deepcopy(classifier)), held_out
    assert best is not None
    return best


def _batch_loss(
    stacks: Sequence[NetworkStack], parameters: torch.Tensor, classifier: nn.Module, plan: InvariantPlan
) -> torch.Tensor:
    patterns = torch.sigmoid(parameters)
    features, wanted = [], []
    for stack in stacks:
        batch = stack.select(torch.randperm(len(stack))[: plan.batch])
        logits = batch.logits(fitted_to(patterns, stack.input_shape), dropout=plan.dropout)
        features.append(invariant_features(logits))
        wanted.append(batch.poisoned.float())
    scores = classifier(torch.cat(features))[:, 0]
    loss = binary_cross_entropy_with_logits(scores, torch.cat(wanted))
    return loss + plan.total_variation * total_variation(patterns)
