"""Poisons: images that look like a base and have the features of a target (Shafahi et al. 2018, §2, Algorithm 1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from ..training import as_input
from .collision import STEP_RULES, Batch, Features, Precision, Similarity, StepRule, squared_norms

LEVELS = 255

__all__ = ["CraftingPlan", "Features", "Poisons", "craft", "measured", "watermarked"]


@dataclass(frozen=True, kw_only=True)
class CraftingPlan:
    """How poisons are made.

    ``iterations``: at most, for each poison. ``step_rule``: how λ of the forward step is found, see ``craft``.
    ``learning_rate``: by "polyak", the share of Polyak's λ, between 0 and 2; by "descent", the first λ, for pixels in
    [0, 1]; only the first one, since every poison has its own, which decays by itself. ``similarity``: β0 of the paper,
    β = β0 · D² / dim_b² for D features and dim_b numbers in an image (§3.1), in units of pixels from 0 to 255.
    ``stop_distance``: a poison is finished once ‖f(p) − f(t)‖ of its uint8 image is below; None: never for that reason.
    ``bound``: an ℓ∞ bound for pixels in [0, 1], such as 2/255; then the nearest image within it takes the place of the
    backward step, and ``similarity`` is of no consequence. ``batch``: how many poisons are optimised at once.
    ``precision``: of the network while poisons are optimised; they are measured in float32.
    """

    iterations: int = 1000
    learning_rate: float = 1.0
    similarity: float = 0.25
    stop_distance: float | None = None
    bound: float | None = None
    batch: int = 128
    step_rule: StepRule = "polyak"
    precision: Precision = "float32"


@dataclass(frozen=True, kw_only=True)
class Poisons:
    """Finished poisons; all is measured on the rounded images.

    ``images``: uint8 ``(N, C, H, W)``. ``distances``: float32 ``(N,)``, ‖f(p) − f(t)‖. ``objectives``: float32
    ``(N,)``, equation 1, its second term in units of pixels from 0 to 255 and left out where a bound takes its place.
    ``iterations``: int64 ``(N,)``, forward-backward steps tried.
    """

    images: torch.Tensor
    distances: torch.Tensor
    objectives: torch.Tensor
    iterations: torch.Tensor


def craft(
    features: Features,
    bases: torch.Tensor,
    targets: torch.Tensor,
    plan: CraftingPlan,
    *,
    on_step: Callable[[int], None] | None = None,
) -> Poisons:
    """One poison for each pair of a base and a target, uint8 ``(N, C, H, W)`` each, by Algorithm 1.

    ``features`` is the frozen network in evaluation mode up to its penultimate layer. ``on_step`` is called after each
    step of the batch with the number of finished poisons.

    The forward step is one of gradient descent on ‖f(x) − f(t)‖², the backward step (x̂ + λβb) / (1 + βλ). Beyond the
    algorithm as printed, as in the authors' published code, the image is clipped to valid pixels, and a learning rate
    that is too large decays. What is done otherwise, and why:

    - The published code takes the gradient of the norm, not of its square, and adds the two norms, not their squares,
      for the objective that it watches; here both are those of the paper's equation 1.
    - It halves the learning rate where the objective rose above its mean of 40 iterations, asked at few iterations
      only. Here λ is found anew in every step, for each poison by itself, and the result is the best image that was
      seen. By the rule "polyak" λ is ‖f(x) − f(t)‖² / ‖∇‖², the step to a minimum of 0 if the function were linear
      there (Polyak, *Introduction to Optimization*, 1987); where no better image is found for some steps, the best one
      is gone back to and half the step taken. By "descent", a step that does not lower the poison's own objective is
      taken back and half the rate tried instead, and a step that does is followed by one that is a little longer. With
      networks of rectified units that ends at a kink, with a rate of next to nothing, far from the target.
    - The rate belongs to one poison and is never carried over to the next one.
    - A poison is finished early where the rest of its iterations, at the present step, could not move any pixel by half
      a level of 255.
    - Poisons are rounded to uint8, and measured afterwards; the published script writes JPEG files, which change
      features.

    Raises ValueError for images that do not fit together or are not uint8, for settings out of range, and where the
    network's features are not finite.
    """
    _check(bases, targets, plan)
    similarity = _similarity(features, bases, targets, plan)
    wanted = _all_features(features, targets, plan.batch)
    images = torch.empty_like(bases, memory_format=torch.contiguous_format)
    iterations = torch.zeros(len(bases), dtype=torch.int64, device=bases.device)
    batch, waiting = Batch.empty(features, similarity, plan.step_rule, plan.precision, plan.learning_rate), 0
    while waiting < len(bases) or len(batch):
        joining = slice(waiting, min(len(bases), waiting + plan.batch - len(batch)))
        numbers = torch.arange(joining.start, joining.stop, device=bases.device)
        # Channels last, as convolutions want it: else each step would copy the images.
        started = as_input(bases[joining]).contiguous(memory_format=torch.channels_last)
        batch.join(numbers, started, wanted[joining])
        waiting = joining.stop
        batch.step()
        finished = batch.finished(plan.iterations, plan.stop_distance)
        numbers, crafted, tried = batch.leave(finished)
        images[numbers], iterations[numbers] = crafted, tried
        if on_step:
            on_step(waiting - len(batch))
    found = measured(features, images, bases, targets, plan)
    return replace(found, iterations=iterations)


def measured(
    features: Features, images: torch.Tensor, bases: torch.Tensor, targets: torch.Tensor, plan: CraftingPlan
) -> Poisons:
    """Distances and objectives of poisons that somebody made, uint8 images as in ``craft``; their iterations are 0."""
    similarity = _similarity(features, bases, targets, plan)
    wanted = _all_features(features, targets, plan.batch)
    distances, objectives = _measured(features, images, bases, wanted, similarity, plan.batch)
    iterations = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    return Poisons(images=images, distances=distances, objectives=objectives, iterations=iterations)


def watermarked(bases: torch.Tensor, targets: torch.Tensor, opacity: float) -> torch.Tensor:
    """Uint8 ``(N, C, H, W)``: γ·t + (1 − γ)·b for the opacity γ in [0, 1], rounded (§4.2).

    The target is blended in, not added on top as some implementations do. One target may stand for all bases. Raises
    ValueError for another opacity, or images that are not uint8.
    """
    if not 0 <= opacity <= 1:
        raise ValueError(f"The opacity of a watermark is between 0 and 1, not {opacity}.")
    if bases.dtype != torch.uint8 or targets.dtype != torch.uint8:
        raise ValueError("Bases and targets are uint8 images.")
    return (opacity * targets.float() + (1 - opacity) * bases.float()).round().to(torch.uint8)


def _check(bases: torch.Tensor, targets: torch.Tensor, plan: CraftingPlan) -> None:
    if bases.shape != targets.shape or bases.dim() != 4:
        raise ValueError(
            f"Bases have shape {tuple(bases.shape)} and targets {tuple(targets.shape)}; give (N, C, H, W) for both, "
            "one target for each base."
        )
    if bases.dtype != torch.uint8 or targets.dtype != torch.uint8:
        raise ValueError("Bases and targets are uint8 images.")
    if min(plan.iterations, plan.batch) < 1 or not plan.learning_rate > 0 or not plan.similarity >= 0:
        raise ValueError("Iterations, batch and learning rate are positive, and the similarity is not negative.")
    if plan.step_rule not in STEP_RULES:
        raise ValueError(f"There is no step rule {plan.step_rule!r}; choose one of {', '.join(STEP_RULES)}.")
    if plan.bound is not None and not plan.bound * LEVELS > 1 - 1e-4:
        raise ValueError(f"A bound of {plan.bound} is below one of 255 levels: no uint8 image could change.")


def _similarity(features: Features, bases: torch.Tensor, targets: torch.Tensor, plan: CraftingPlan) -> Similarity:
    """β for pixels in [0, 1], whose squares are 255² times smaller than those of the paper's; or the bound."""
    if plan.bound is not None:
        # Whole levels, so that rounding an image within the bound leaves it there.
        return Similarity(beta=0.0, bound=int(plan.bound * LEVELS + 1e-4) / LEVELS)
    with torch.no_grad():
        dimension = features(as_input(targets[:1])).shape[1] if len(targets) else 0
    numbers = max(1, bases[:1].numel())
    return Similarity(beta=plan.similarity * (dimension / numbers * LEVELS) ** 2, bound=None)


@torch.no_grad()
def _all_features(features: Features, images: torch.Tensor, batch: int) -> torch.Tensor:
    if not len(images):
        return torch.empty(0, 0, device=images.device)
    found = torch.cat([features(as_input(some)) for some in images.split(batch)])
    if not found.isfinite().all():
        raise ValueError("The network's features of some target are not finite; no poison can collide with it.")
    return found


@torch.no_grad()
def _measured(
    features: Features,
    images: torch.Tensor,
    bases: torch.Tensor,
    wanted: torch.Tensor,
    similarity: Similarity,
    batch: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Distances and objectives of rounded poisons."""
    if not len(images):
        return torch.zeros(0), torch.zeros(0)
    squares = squared_norms(_all_features(features, images, batch) - wanted)
    changes = torch.cat(
        [squared_norms(as_input(p) - as_input(b)) for p, b in zip(images.split(batch), bases.split(batch), strict=True)]
    )
    return squares.sqrt(), squares + similarity.beta * changes
