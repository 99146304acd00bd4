"""Universal Litmus Patterns: patterns and linear classifier, fitted jointly on a zoo (Kolouri et al. 2020, eq. 1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from pytest_backdoor.checks.litmus import litmus_features

from ..zoo.store import NetworkStack


@dataclass(frozen=True, kw_only=True)
class LitmusPlan:
    """How patterns are fitted.

    ``patterns``: their number M. ``total_variation``: λ of eq. 1, per pixel. ``dropout``: share of hidden units that
    are dropped in every network at every step, the paper's augmentation of models. ``weight_decay``: of the classifier.
    """

    patterns: int = 10
    epochs: int = 60
    batch: int = 50
    pattern_rate: float = 0.3
    classifier_rate: float = 0.01
    weight_decay: float = 1e-2
    total_variation: float = 1e-3
    dropout: float = 0.2
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class FittedLitmus:
    """``patterns``: float ``(M, C, H, W)`` in [0, 1]. ``weights``: float ``(M·K,)``. ``bias``: float."""

    patterns: torch.Tensor
    weights: torch.Tensor
    bias: float

    @torch.no_grad()
    def features(self, stack: NetworkStack) -> torch.Tensor:
        """Float ``(N, M·K)``."""
        return litmus_features(stack.logits(self.patterns))

    def scores(self, stack: NetworkStack) -> torch.Tensor:
        """Float ``(N,)``: the log-odds that each network is backdoored."""
        return self.features(stack) @ self.weights + self.bias


def total_variation(patterns: torch.Tensor) -> torch.Tensor:
    """The mean absolute difference between neighbouring pixels, R(z) of eq. 1 per pixel."""
    across = (patterns[..., 1:] - patterns[..., :-1]).abs().mean()
    down = (patterns[..., 1:, :] - patterns[..., :-1, :]).abs().mean()
    return across + down


def fit_litmus(
    fit: NetworkStack,
    validation: NetworkStack,
    input_shape: tuple[int, int, int],
    plan: LitmusPlan,
    on_epoch: Callable[[int, float], None] | None = None,
) -> FittedLitmus:
    """Patterns and classifier fitted on ``fit``; of all epochs the one with the best loss on ``validation`` is kept.

    Deviations from the paper and its scripts: the logits are standardised (``litmus_features``); patterns stay in
    [0, 1] through a sigmoid, not by clamping; both are optimised by Adam on batches of networks; the classifier has
    one output, which for two classes is the same as a softmax over two.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        generator = torch.Generator().manual_seed(plan.seed)
        parameters = torch.randn(plan.patterns, *input_shape, generator=generator).requires_grad_()
        outputs = fit.logits(torch.zeros(1, *input_shape)).shape[-1]
        weights = torch.zeros(plan.patterns * outputs, requires_grad=True)
        bias = torch.zeros((), requires_grad=True)
        optimizer = torch.optim.Adam(
            [
                {"params": [parameters], "lr": plan.pattern_rate},
                {"params": [weights, bias], "lr": plan.classifier_rate},
            ]
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, plan.epochs)
        best: FittedLitmus | None = None
        best_loss = float("inf")
        for epoch in range(plan.epochs):
            for batch in torch.randperm(len(fit), generator=generator).split(plan.batch):
                networks = fit.select(batch)
                patterns = torch.sigmoid(parameters)
                scores = litmus_features(networks.logits(patterns, dropout=plan.dropout)) @ weights + bias
                loss = binary_cross_entropy_with_logits(scores, networks.poisoned.float())
                penalty = plan.total_variation * total_variation(patterns) + plan.weight_decay * (weights**2).mean()
                optimizer.zero_grad()
                (loss + penalty).backward()
                optimizer.step()
            schedule.step()
            candidate = FittedLitmus(
                patterns=torch.sigmoid(parameters.detach()), weights=weights.detach().clone(), bias=bias.item()
            )
            held_out = binary_cross_entropy_with_logits(
                candidate.scores(validation), validation.poisoned.float()
            ).item()
            if held_out < best_loss or best is None:
                best, best_loss = candidate, held_out
            if on_epoch:
                on_epoch(epoch + 1, held_out)
    assert best is not None
    return best


def area_under_curve(clean: torch.Tensor, poisoned: torch.Tensor) -> float:
    """The share of (clean, poisoned) pairs in which the poisoned score is higher; ties count half."""
    higher = (poisoned[:, None] > clean[None]).double() + 0.5 * (poisoned[:, None] == clean[None]).double()
    return float(higher.mean())
