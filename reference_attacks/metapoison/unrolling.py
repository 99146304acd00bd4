"""The meta-gradient: how the loss on the target, after a few steps of SGD, depends on the pixels of the first batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy

from .settings import Looks, Objective, Statistics
from .stacks import Networks, Stack, Tensors

MARGIN_FLOOR = -100.0  # As in the published code.


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A batch of each of G surrogates. ``images``: float ``(G, B, C, H, W)``. ``labels``: int64 ``(G, B)``."""

    images: torch.Tensor
    labels: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class Aim:
    """What the poisoner looks at.

    ``targets``: float ``(T, C, H, W)``. ``labels``: int64 ``(T,)``, the wanted ones. The rest as in ``CraftingPlan``.
    """

    targets: torch.Tensor
    labels: torch.Tensor
    objective: Objective
    looks: Looks
    statistics: Statistics


@dataclass(frozen=True, kw_only=True)
class MetaGradient:
    """``gradient``: float ``(G, B, C, H, W)``, of the summed objectives of all surrogates with respect to the first
    batch. ``before`` and ``after``: float ``(G, T, classes)``, the target's logits before the unrolled steps and after
    them. ``objective``: float ``(G,)``.
    """

    gradient: torch.Tensor
    before: torch.Tensor
    after: torch.Tensor
    objective: torch.Tensor


def target_loss(logits: torch.Tensor, labels: torch.Tensor, objective: Objective) -> torch.Tensor:
    """Float ``(G,)``: the mean over T targets of an objective of float logits ``(G, T, classes)``.

    "cross-entropy" for the wanted ``labels``, int64 ``(T,)``; or "margin" of Carlini and Wagner (2017): the greatest
    other logit minus that of the wanted label, at least -100.
    """
    if objective == "cross-entropy":
        repeated = labels.repeat(len(logits))
        return cross_entropy(logits.flatten(0, 1), repeated, reduction="none").unflatten(0, logits.shape[:2]).mean(1)
    wanted = torch.nn.functional.one_hot(labels, logits.shape[-1]).bool()
    own = (logits * wanted).sum(-1)
    others = logits.masked_fill(wanted, -torch.inf).amax(-1)
    return (others - own).clamp(min=MARGIN_FLOOR).mean(1)


def meta_gradient(
    networks: Networks,
    surrogates: Stack,
    batches: Sequence[Batch],
    aim: Aim,
    *,
    unroll: int,
    rates: torch.Tensor,
    checkpoint: bool,
) -> MetaGradient:
    """The exact gradient of the target's loss through ``unroll`` steps of SGD from ``surrogates``, which stay as they
    are (Algorithm 1, lines 5 to 8).

    ``batches``: the K batches of the steps, poisons in the first one, and one more where the target is looked at with
    ``statistics="batch"``: after step k it is put into batch k + 1. ``rates``: float ``(G,)``, of each surrogate's SGD.

    The steps themselves are taken with batch normalisation in training mode. What is done otherwise than in the
    published code: the target is no part of the batches that are trained on, as it is none of a victim's; and with
    ``statistics="running"`` the running statistics are those of the surrogate before the unrolled steps.

    The chain rule is applied step by step from the last one (second derivatives are products with one vector, taken by
    differentiating the gradient again), not by one backward pass through one graph: the same number, and with
    ``checkpoint`` only one step's graph is in memory, however many there are.
    """
    steps = [_Step(networks, surrogates.buffers, batch, rates) for batch in batches[:unroll]]
    trajectory = [surrogates.weights]
    for step in steps:
        trajectory.append(step.forward(trajectory[-1], keep=not checkpoint))
    looks = list(range(1, unroll + 1)) if aim.looks == "every" else [unroll]
    with torch.no_grad():
        before = _look(networks, surrogates.weights, surrogates.buffers, batches, 0, aim)
    adjoint = {name: torch.zeros_like(value) for name, value in surrogates.weights.items()}
    total: torch.Tensor = before.new_zeros(len(before))
    after = before
    gradient = torch.zeros_like(batches[0].images)
    for number in range(unroll, 0, -1):
        if number in looks:
            weights = leaves_of(trajectory[number])
            logits = _look(networks, weights, surrogates.buffers, batches, number, aim)
            loss = target_loss(logits, aim.labels, aim.objective) / len(looks)
            slopes = torch.autograd.grad(loss.sum(), list(weights.values()))
            adjoint = {name: value + slope for (name, value), slope in zip(adjoint.items(), slopes, strict=True)}
            total = total + loss.detach()
            after = logits.detach() if number == unroll else after
        if number > 1:
            adjoint = steps[number - 1].back_to_weights(trajectory[number - 1], adjoint)
        else:
            gradient = steps[0].back_to_images(trajectory[0], adjoint)
    return MetaGradient(gradient=gradient, before=before, after=after, objective=total)


class _Step:
    """One step of SGD of all surrogates, and its vector-Jacobian products.

    The step is ``w' = w - r g(w, x)`` with ``g`` the gradient of the batch's loss, so that a cotangent ``a`` of ``w'``
    gives ``a - r ∂(g·a)/∂w`` for ``w`` and ``-r ∂(g·a)/∂x`` for ``x``.
    """

    def __init__(self, networks: Networks, buffers: Tensors, batch: Batch, rates: torch.Tensor) -> None:
        self.networks, self.buffers, self.batch, self.rates = networks, buffers, batch, rates
        self.kept: tuple[Tensors, torch.Tensor, Tensors] | None = None

    def forward(self, weights: Tensors, *, keep: bool) -> Tensors:
        """The weights after the step; with ``keep`` its graph stays for the way back."""
        leaves, images, gradients = self._differentiated(weights, twice=keep)
        if keep:
            self.kept = leaves, images, gradients
        return {name: value.detach() - scaled(gradients[name].detach(), self.rates) for name, value in leaves.items()}

    def back_to_weights(self, weights: Tensors, adjoint: Tensors) -> Tensors:
        """The cotangent of the weights before the step."""
        leaves, _, gradients = self._taken(weights)
        scaled_adjoint = [scaled(value, self.rates) for value in adjoint.values()]
        products = torch.autograd.grad(list(gradients.values()), list(leaves.values()), scaled_adjoint)
        return {name: value - product for (name, value), product in zip(adjoint.items(), products, strict=True)}

    def back_to_images(self, weights: Tensors, adjoint: Tensors) -> torch.Tensor:
        """The cotangent of the batch's images."""
        _, images, gradients = self._taken(weights)
        scaled_adjoint = [scaled(value, self.rates) for value in adjoint.values()]
        (product,) = torch.autograd.grad(list(gradients.values()), [images], scaled_adjoint)
        return -product

    def _taken(self, weights: Tensors) -> tuple[Tensors, torch.Tensor, Tensors]:
        kept, self.kept = self.kept, None
        return kept or self._differentiated(weights, twice=True)

    def _differentiated(self, weights: Tensors, *, twice: bool) -> tuple[Tensors, torch.Tensor, Tensors]:
        leaves, images = leaves_of(weights), self.batch.images.detach().requires_grad_(twice)
        logits = self.networks.unrolled(leaves, self.buffers, images)
        loss = batch_losses(logits, self.batch.labels).sum()
        gradients = torch.autograd.grad(loss, list(leaves.values()), create_graph=twice)
        return leaves, images, dict(zip(leaves, gradients, strict=True))


def batch_losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Float ``(G,)``: each surrogate's mean cross-entropy of float logits ``(G, B, classes)``."""
    return cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").unflatten(0, labels.shape).mean(1)


def scaled(value: torch.Tensor, rates: torch.Tensor) -> torch.Tensor:
    """Each surrogate's part of a stacked ``value`` times its own rate."""
    return value * rates.view(-1, *[1] * (value.dim() - 1))


def leaves_of(weights: Tensors) -> Tensors:
    """The same weights, without their history, to be differentiated with respect to."""
    return {name: value.detach().requires_grad_() for name, value in weights.items()}


def _look(
    networks: Networks,
    weights: Tensors,
    buffers: Tensors,
    batches: Sequence[Batch],
    step: int,
    aim: Aim,
) -> torch.Tensor:
    """Float ``(G, T, classes)``: the target's logits after ``step`` steps."""
    targets = aim.targets.expand(len(batches[0].labels), *aim.targets.shape)
    if aim.statistics == "running":
        return networks.evaluating(weights, buffers, targets)
    together = torch.cat([batches[step].images, targets], dim=1)
    return networks.unrolled(weights, buffers, together)[:, -targets.shape[1] :]
