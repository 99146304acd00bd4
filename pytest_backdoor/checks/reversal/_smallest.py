"""From a trigger to the smallest one that still works: what a person is shown."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ._images import ReversalImages
from ._search import Forward, losses, mean_margins, require_finite

STEPS = 60
LEARNING_RATE = 0.3
BETAS = (0.5, 0.9)
SUCCESS = 0.95
LOWEST_SUCCESS = 0.5
INITIAL_WEIGHT = 1e-2
RAISE_BY, LOWER_BY = 1.3, 1.4
COVERED, FREE = 1.5, -2.0


@dataclass(frozen=True, kw_only=True)
class SmallestTrigger:
    """The smallest trigger that was found for one target.

    ``target``: the class, or -1 (``AGNOSTIC``) where images only have to leave theirs. ``mask``: float ``(1, H, W)`` in
    [0, 1]. ``pattern``: float ``(C, H, W)`` in [0, 1]. ``size``: the mask's ℓ1 norm, in pixels; H·W if no trigger had
    enough success. ``success``: the share of held-out images that it turns, in [0, 1].
    """

    target: int
    mask: torch.Tensor
    pattern: torch.Tensor
    size: float
    success: float

    def apply(self, images: torch.Tensor) -> torch.Tensor:
        """``images``, float ``(N, C, H, W)`` in [0, 1], with the trigger: x · (1 - mask) + pattern · mask."""
        return images * (1 - self.mask) + self.pattern * self.mask


def smallest_trigger(
    forward: Forward, images: ReversalImages, target: int, mask: torch.Tensor, pattern: torch.Tensor
) -> SmallestTrigger:
    """Shrink the trigger that starts as ``mask``, float ``(1, H, W)``, and ``pattern``, float ``(C, H, W)``.

    Source: Universal Litmus Patterns §3.4.2, after Neural Cleanse: the cross-entropy to the target plus a weight times
    the mask's ℓ1 norm, the weight adapting to the success. Deviations: the weight adapts after every step and not after
    five in a row, and the search starts from a trigger that is known to work. Where even that turns fewer than 95 % of
    the images, as many as it turns are asked for, at least half. Raises NotAssessableError if the gradients are no
    guide.
    """
    targets = torch.tensor([target], device=images.images.device)
    mask_logits = (FREE + (COVERED - FREE) * mask)[None].clone().requires_grad_()
    pattern_logits = torch.logit(pattern.clamp(0.02, 0.98))[None].div(2).clone().requires_grad_()
    optimizer = torch.optim.Adam([mask_logits, pattern_logits], lr=LEARNING_RATE, betas=BETAS)
    weight, needed = INITIAL_WEIGHT, _needed(forward, images, targets, mask, pattern)
    best: tuple[float, torch.Tensor, torch.Tensor] | None = None
    for _ in range(STEPS):
        masks, patterns = torch.sigmoid(2 * mask_logits), torch.sigmoid(2 * pattern_logits)
        logits = forward(images.images * (1 - masks) + patterns * masks).float()[None]
        objective = losses(logits, images.labels, targets).sum() + weight * masks.sum()
        mask_logits.grad, pattern_logits.grad = torch.autograd.grad(objective, [mask_logits, pattern_logits])
        require_finite(objective.detach(), mask_logits.grad)
        optimizer.step()
        size, success = float(masks.detach().sum()), float(mean_margins(logits, images.labels, targets)[1])
        if success >= needed and (best is None or size < best[0]):
            best = size, masks.detach()[0], patterns.detach()[0]
        weight = weight * RAISE_BY if success >= needed else weight / LOWER_BY
    size, found_mask, found_pattern = best or (float(mask.numel()), mask, pattern)
    return SmallestTrigger(
        target=target,
        mask=found_mask,
        pattern=found_pattern,
        size=size,
        success=held_out_success(forward, images, target, found_mask, found_pattern),
    )


def _needed(
    forward: Forward, images: ReversalImages, targets: torch.Tensor, mask: torch.Tensor, pattern: torch.Tensor
) -> float:
    with torch.no_grad():
        logits = forward(images.images * (1 - mask) + pattern * mask).float()[None]
    reached = float(mean_margins(logits, images.labels, targets)[1])
    return max(LOWEST_SUCCESS, min(SUCCESS, reached))


@torch.no_grad()
def held_out_success(
    forward: Forward, images: ReversalImages, target: int, mask: torch.Tensor, pattern: torch.Tensor
) -> float:
    """The share of held-out images, those of the target class aside, that the trigger turns, in [0, 1]."""
    targets = torch.tensor([target], device=images.held_out.device)
    logits = forward(images.held_out * (1 - mask) + pattern * mask).float()[None]
    return float(mean_margins(logits, images.held_out_labels, targets)[1])
