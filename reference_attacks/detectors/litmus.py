"""Universal Litmus Patterns: patterns and classifier, fitted jointly on a zoo (Kolouri et al. 2020, eq. 1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from pytest_backdoor.calibration import eight_bit
from pytest_backdoor.checks.litmus import litmus_features

from ..zoo.store import NetworkStack
from .classifiers import SYMMETRIC, FittedClassifier, Pooling, make_classifier

# Fewer have no spread.
FEWEST_CLEAN = 2


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

    ``pooling``: the operator g of eq. 1, with a linear classifier; or one of ``SYMMETRIC``, which the paper does not
    have (``SymmetricClassifier``). ``noise``: leave the patterns as the random images that they start from, the
    baseline of §3.4.1 with the same classifier.
    """

    pooling: Pooling = "concatenation"
    noise: bool = False


@dataclass(frozen=True, kw_only=True)
class FittedLitmus:
    """``patterns``: float ``(M, C, H, W)``, multiples of 1/255. ``classifier``: what judges the answers to them."""

    patterns: torch.Tensor
    classifier: FittedClassifier

    @torch.no_grad()
    def scores(self, stack: NetworkStack) -> torch.Tensor:
        """Float ``(N,)``: the log-odds that each network is backdoored."""
        return self.classifier.scores(answers(stack, self.patterns))


def answers(stack: NetworkStack, images: torch.Tensor, *, dropout: float = 0.0) -> torch.Tensor:
    """Float ``(N, M, K)``: the networks' standardised logits on M images (``litmus_features``)."""
    logits = stack.logits(images, dropout=dropout)
    features: torch.Tensor = litmus_features(logits)
    return features.view(logits.shape)


def balanced_batches(poisoned: torch.Tensor, size: int, generator: torch.Generator) -> list[torch.Tensor]:
    """Networks in random batches of about ``size``, int64 indices, each with its share of clean and of poisoned ones.

    ``poisoned``: bool ``(N,)``. No batch has fewer than ``FEWEST_CLEAN`` clean networks if there are as many.
    """
    order = torch.randperm(len(poisoned), generator=generator)
    shuffled = poisoned[order]
    clean, backdoored = order[~shuffled], order[shuffled]
    count = max(1, min(round(len(order) / size), len(clean) // FEWEST_CLEAN))
    return [torch.cat(parts) for parts in zip(clean.tensor_split(count), backdoored.tensor_split(count), strict=True)]


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
    optimised by Adam on batches of networks.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        return _Fit(fit, validation, plan).run(on_epoch)


class _Fit:
    """The state of one optimisation."""

    def __init__(self, fit: NetworkStack, validation: NetworkStack, plan: LitmusPlan) -> None:
        self.fit, self.validation, self.plan = fit, validation, plan
        self.clean = fit.clean
        self.generator = torch.Generator().manual_seed(plan.seed)
        shape = (plan.patterns, *fit.input_shape)
        if plan.noise:
            self.parameters = torch.logit(torch.rand(shape, generator=self.generator).clamp(1e-3, 1 - 1e-3))
        else:
            self.parameters = torch.randn(shape, generator=self.generator).requires_grad_()
        self.classifier = make_classifier(plan.pooling, plan.patterns, fit.classes)
        self.symmetric = plan.pooling in SYMMETRIC
        if self.symmetric and len(self.clean) < FEWEST_CLEAN:
            raise ValueError(f"A class-symmetric classifier is fitted on {FEWEST_CLEAN} or more clean networks.")

    def run(self, on_epoch: Callable[[int, float], None] | None) -> FittedLitmus:
        rate = self.plan.classifier_rate * self.classifier.rate_factor
        groups = [{"params": list(self.classifier.parameters()), "lr": rate}]
        if not self.plan.noise:
            groups.append({"params": [self.parameters], "lr": self.plan.pattern_rate})
        optimizer = torch.optim.Adam(groups)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.plan.epochs)
        best, best_loss = self.rounded(), float("inf")
        for epoch in range(self.plan.epochs):
            for batch in self.batches():
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

    def batches(self) -> list[torch.Tensor]:
        """The networks of one epoch in random batches, int64; each has clean ones where they are the measure."""
        if self.symmetric:
            return balanced_batches(self.fit.poisoned, self.plan.batch, self.generator)
        return list(torch.randperm(len(self.fit), generator=self.generator).split(self.plan.batch))

    def loss(self, networks: NetworkStack) -> torch.Tensor:
        """Eq. 1 on some of the networks."""
        patterns = torch.sigmoid(self.parameters)
        features = answers(networks, patterns, dropout=self.plan.dropout)
        scores = self.classifier(features, networks.poisoned)
        decay = self.plan.weight_decay * self.classifier.weights.square().mean()
        return _loss(scores, networks) + decay + self.plan.total_variation * total_variation(patterns)

    @torch.no_grad()
    def rounded(self) -> FittedLitmus:
        """What a pack would hold: patterns are stored as 8-bit images."""
        patterns = eight_bit_images(self.parameters)
        clean = answers(self.clean, patterns) if self.symmetric else None
        return FittedLitmus(patterns=patterns, classifier=self.classifier.finished(clean))


def _loss(scores: torch.Tensor, networks: NetworkStack) -> torch.Tensor:
    return binary_cross_entropy_with_logits(scores, networks.poisoned.float())
