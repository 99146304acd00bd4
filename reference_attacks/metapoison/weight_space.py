"""Figure 6a of MetaPoison: the paths of a clean and a poisoned victim through the space of weights (§3.7)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..training import as_input
from ..zoo.seeds import derived_generator
from .kept_weights import flattened
from .problem import Problem
from .settings import CraftingPlan
from .stacks import Networks, Stack
from .unrolling import batch_losses, leaves_of, scaled, target_loss

# First batches over which a direction is averaged: that of one batch depends on which poisons are in it.
DRAWS = 16
ARROWS = 10


@dataclass(frozen=True, kw_only=True)
class Plane:
    """The plane that shows most of some points' variance.

    ``mean``: float ``(D,)``. ``axes``: float ``(2, D)``, orthonormal. ``explained``: the share of the variance that it
    shows, in [0, 1].
    """

    mean: torch.Tensor
    axes: torch.Tensor
    explained: float

    def places(self, points: torch.Tensor) -> Any:
        """Coordinates of float points ``(N, D)``, as JSON values."""
        return _rounded((points - self.mean) @ self.axes.T)

    def shadow(self, direction: torch.Tensor) -> Any:
        """Coordinates of a direction, float ``(D,)``, as JSON values."""
        return _rounded(self.axes @ direction)


def principal_plane(points: torch.Tensor) -> Plane:
    """The plane of the first two principal components of float points ``(N, D)``; raises ValueError for N below 3."""
    if len(points) < 3:
        raise ValueError("A plane is laid through three points at least.")
    mean = points.mean(0)
    _, values, axes = torch.linalg.svd(points - mean, full_matrices=False)
    squares = values.square()
    explained = float(squares[:2].sum() / squares.sum().clamp(min=torch.finfo(squares.dtype).tiny))
    return Plane(mean=mean, axes=axes[:2], explained=explained)


def weight_paths(
    problem: Problem,
    poisons: torch.Tensor,
    template: nn.Module,
    clean: Stack,
    poisoned: Stack,
    plan: CraftingPlan,
    *,
    seed: int,
) -> dict[str, Any]:
    """Two victims' weights, epoch by epoch, on one plane, and where unrolled poisons push those of the clean one.

    ``clean`` and ``poisoned``: networks like ``template`` at the start and after each epoch, which start from the same
    weights and see images in the same order; ``poisons``, uint8 ``(P, C, H, W)``, take the place of the bases for the
    second. The paper's plane is that of the components "differentiating final clean and the target weight vectors",
    without further words; this one is of all weights on both paths, and "explained" is its share of their variance.

    "arrows": from the clean weights after some epochs, what K steps of SGD at the plan's rate with poisons in the first
    batch change, less what the same steps change without them, averaged over batches. "direction": on the plane, of the
    change made one unit long; "length": of the change in all dimensions. "towards_poisoned": cosine of the angle to the
    way from the clean to the poisoned weights of the same epoch. "towards_wanted": to the steepest descent of the
    target's loss. Cosines of unrelated directions are near 0, since there are so many dimensions.
    """
    ways = flattened(clean), flattened(poisoned)
    plane = principal_plane(torch.cat(ways))
    looker = _Looker(problem, poisons, template, plan, seed)
    arrows = []
    for epoch in _spread(len(clean) - 1):
        state = clean.part(slice(epoch, epoch + 1))
        pushed, wanted = looker.push(state, epoch), looker.descent(state)
        length = pushed.norm()
        arrows.append(
            {
                "epoch": epoch,
                "direction": plane.shadow(pushed / length.clamp(min=1e-12)),
                "length": float(length),
                "towards_poisoned": _cosine(pushed, ways[1][epoch] - ways[0][epoch]),
                "towards_wanted": _cosine(pushed, wanted),
            }
        )
    return {
        "explained": round(plane.explained, 4),
        "clean": plane.places(ways[0]),
        "poisoned": plane.places(ways[1]),
        "arrows": arrows,
    }


class _Looker:
    """Directions in the space of weights, of one problem and its poisons."""

    def __init__(
        self, problem: Problem, poisons: torch.Tensor, template: nn.Module, plan: CraftingPlan, seed: int
    ) -> None:
        self.problem, self.plan, self.seed = problem, plan, seed
        self.networks = Networks(template, device="cpu")
        self.poisoned = problem.poisoned(poisons)
        self.rates = torch.tensor([plan.learning_rate])

    def push(self, state: Stack, epoch: int) -> torch.Tensor:
        """Float ``(D,)``: what poisons in the first of K unrolled batches change in the weights, on average."""
        changes = []
        for draw in range(DRAWS):
            generator = derived_generator(self.seed, f"metapoison/arrows/{epoch}/{draw}")
            order = torch.randperm(len(self.problem.clean), generator=generator)
            batches = order[: self.plan.unroll * self.plan.batch].view(self.plan.unroll, -1)
            ends = [self._unrolled(state, batches, poisoned=poisoned) for poisoned in (True, False)]
            changes.append(flattened(ends[0]) - flattened(ends[1]))
        return torch.cat(changes).mean(0)

    def descent(self, state: Stack) -> torch.Tensor:
        """Float ``(D,)``: minus the gradient of the targets' cross-entropy for the wanted labels."""
        leaves = leaves_of(state.weights)
        logits = self.networks.evaluating(leaves, state.buffers, as_input(self.problem.targets)[None])
        loss = target_loss(logits, self.problem.labels, "cross-entropy").sum()
        slopes = torch.autograd.grad(loss, list(leaves.values()))
        return -flattened(Stack(weights=dict(zip(leaves, slopes, strict=True)), buffers={}))[0]

    def _unrolled(self, state: Stack, batches: torch.Tensor, *, poisoned: bool) -> Stack:
        weights = state.weights
        for number, chosen in enumerate(batches):
            seen = (self.poisoned if poisoned and not number else self.problem.clean).take(chosen)
            leaves = leaves_of(weights)
            logits = self.networks.unrolled(leaves, state.buffers, as_input(seen.images)[None])
            slopes = torch.autograd.grad(batch_losses(logits, seen.labels[None]).sum(), list(leaves.values()))
            weights = {
                name: value - scaled(slope, self.rates)
                for (name, value), slope in zip(weights.items(), slopes, strict=True)
            }
        return Stack(weights=weights, buffers=state.buffers)


def _spread(last: int) -> list[int]:
    """At most ``ARROWS`` epochs from 1 to ``last``."""
    return sorted({1 + round(place * (last - 1) / (ARROWS - 1)) for place in range(ARROWS)})


def _cosine(first: torch.Tensor, second: torch.Tensor) -> float:
    return round(float(torch.nn.functional.cosine_similarity(first, second, dim=0)), 4)


def _rounded(values: torch.Tensor) -> Any:
    return (values.double() * 10_000).round().div(10_000).tolist()
