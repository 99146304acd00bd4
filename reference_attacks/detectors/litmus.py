"""Universal Litmus Patterns: patterns and linear classifier, fitted jointly on a zoo (Kolouri et al. 2020, eq. 1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from pytest_backdoor.calibration import eight_bit
from pytest_backdoor.checks.litmus import litmus_features

from ..zoo.store import NetworkStack

Pooling = Literal["concatenation", "mean", "max"]
POOLINGS: tuple[Pooling, ...] = ("concatenation", "mean", "max")


@dataclass(frozen=True, kw_only=True)
class PatternPlan:
    """How patterns of any detector are fitted.

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
class LitmusPlan(PatternPlan):
    """How litmus patterns are fitted.

    ``pooling``: the operator g of eq. 1. ``noise``: leave the patterns as the random images that they start from, the
    baseline of §3.4.1 with the same classifier.
    """

    pooling: Pooling = "concatenation"
    noise: bool = False


@dataclass(frozen=True, kw_only=True)
class FittedLitmus:
    """``patterns``: float ``(M, C, H, W)``, multiples of 1/255. ``weights``: float ``(features,)``. ``bias``: float."""

    patterns: torch.Tensor
    weights: torch.Tensor
    bias: float
    pooling: Pooling = "concatenation"

    @torch.no_grad()
    def features(self, stack: NetworkStack) -> torch.Tensor:
        """Float ``(N, features)``."""
        return pooled_features(stack.logits(self.patterns), self.pooling)

    def scores(self, stack: NetworkStack) -> torch.Tensor:
        """Float ``(N,)``: the log-odds that each network is backdoored."""
        return self.features(stack) @ self.weights + self.bias


def pooled_features(logits: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """Logits ``(N, M, K)`` standardised and pooled over patterns: ``(N, M·K)`` by concatenation, else ``(N, K)``."""
    features: torch.Tensor = litmus_features(logits)
    if pooling == "concatenation":
        return features
    apart = features.view(logits.shape)
    return apart.mean(1) if pooling == "mean" else apart.amax(1)


def eight_bit_images(parameters: torch.Tensor) -> torch.Tensor:
    """The images that ``parameters`` stand for, sigmoid(parameters), as a pack holds them."""
    return torch.from_numpy(eight_bit(torch.sigmoid(parameters.detach()).numpy()))


def total_variation(patterns: torch.Tensor) -> torch.Tensor:
    """The mean absolute difference between neighbouring pixels, R(z) of eq. 1 per pixel."""
    across = (patterns[..., 1:] - patterns[..., :-1]).abs().mean()
    down = (patterns[..., 1:, :] - patterns[..., :-1, :]).abs().mean()
    return across + down


def fit_litmus(
    fit: NetworkStack,
    validation: NetworkStack,
    plan: LitmusPlan,
    on_epoch: Callable[[int, float], None] | None = None,
) -> FittedLitmus:
    """Patterns and classifier fitted on ``fit``; of all epochs the one with the best loss on ``validation`` is kept.

    Deviations from the paper and its scripts: the logits are standardised (``litmus_features``); patterns stay in
    [0, 1] through a sigmoid, not by clamping, and are rounded to 8 bits at the end of each epoch's evaluation; both are
    optimised by Adam on batches of networks; the classifier has one output, which for two classes is the same as a
    softmax over two.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        return _Fit(fit, validation, plan).run(on_epoch)


class _Fit:
    """The state of one optimisation."""

    def __init__(self, fit: NetworkStack, validation: NetworkStack, plan: LitmusPlan) -> None:
        self.fit, self.validation, self.plan = fit, validation, plan
        self.generator = torch.Generator().manual_seed(plan.seed)
        shape = (plan.patterns, *fit.input_shape)
        if plan.noise:
            self.parameters = torch.logit(torch.rand(shape, generator=self.generator).clamp(1e-3, 1 - 1e-3))
        else:
            self.parameters = torch.randn(shape, generator=self.generator).requires_grad_()
        count = fit.classes * (plan.patterns if plan.pooling == "concatenation" else 1)
        self.weights = torch.zeros(count, requires_grad=True)
        self.bias = torch.zeros((), requires_grad=True)

    def run(self, on_epoch: Callable[[int, float], None] | None) -> FittedLitmus:
        groups = [{"params": [self.weights, self.bias], "lr": self.plan.classifier_rate}]
        if not self.plan.noise:
            groups.append({"params": [self.parameters], "lr": self.plan.pattern_rate})
        optimizer = torch.optim.Adam(groups)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.plan.epochs)
        best, best_loss = self.rounded(), float("inf")
        for epoch in range(self.plan.epochs):
            for batch in torch.randperm(len(self.fit), generator=self.generator).split(self.plan.batch):
                optimizer.zero_grad()
                self.loss(self.fit.select(batch)).backward()
                optimizer.step()
            schedule.step()
            candidate = self.rounded()
            held_out = _loss(candidate.scores(self.validation), self.validation).item()
            if held_out < best_loss:
                best, best_loss = candidate, held_out
            if on_epoch:
                on_epoch(epoch + 1, held_out)
        return best

    def loss(self, networks: NetworkStack) -> torch.Tensor:
        """Eq. 1 on some of the networks."""
        patterns = torch.sigmoid(self.parameters)
        logits = networks.logits(patterns, dropout=self.plan.dropout)
        scores = pooled_features(logits, self.plan.pooling) @ self.weights + self.bias
        decay = self.plan.weight_decay * (self.weights**2).mean()
        return _loss(scores, networks) + decay + self.plan.total_variation * total_variation(patterns)

    def rounded(self) -> FittedLitmus:
        """What a pack would hold: patterns are stored as 8-bit images."""
        patterns = eight_bit_images(self.parameters)
        return FittedLitmus(
            patterns=patterns,
            weights=self.weights.detach().clone(),
            bias=self.bias.item(),
            pooling=self.plan.pooling,
        )


def _loss(scores: torch.Tensor, networks: NetworkStack) -> torch.Tensor:
    return binary_cross_entropy_with_logits(scores, networks.poisoned.float())
