"""Trigger reversal: the smallest mask and pattern that turn images into each class, all classes in one batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ...errors import NotAssessableError

AGNOSTIC = -1


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how hard the optimisation looks.

    ``first_steps`` for every arm, then ``second_steps`` for the ``survivors`` with the smallest triggers and for the
    target-agnostic arm. ``success``: the share of images that a trigger must turn. ``raise_by`` and ``lower_by``: the
    factors by which the weight of the mask's size changes after a step with enough and with too little success.
    ``agnostic_starts``: from how large a mask each target-agnostic arm starts, as a logit of half the mask's value;
    a small one finds triggers of few pixels at a fixed place, a large one those that may lie anywhere.
    """

    first_steps: int = 25
    second_steps: int = 45
    survivors: int = 3
    learning_rate: float = 0.3
    success: float = 0.95
    initial_weight: float = 1e-2
    raise_by: float = 1.3
    lower_by: float = 1.4
    agnostic_starts: tuple[float, ...] = (0.0, -2.0)


@dataclass(frozen=True, kw_only=True)
class ReversedTrigger:
    """The smallest trigger that was found for one arm.

    ``target``: the class, or AGNOSTIC for the arm that only has to leave the true class. ``mask``: float
    ``(1, H, W)`` in [0, 1]. ``pattern``: float ``(C, H, W)`` in [0, 1]. ``size``: the mask's ℓ1 norm, in pixels; H·W
    if no trigger had enough success. ``success``: the share of the optimisation's images that it turned, in [0, 1].
    """

    target: int
    mask: torch.Tensor
    pattern: torch.Tensor
    size: float
    success: float

    def apply(self, images: torch.Tensor) -> torch.Tensor:
        """``images``, float ``(N, C, H, W)`` in [0, 1], with the trigger: x · (1 - mask) + pattern · mask."""
        return images * (1 - self.mask) + self.pattern * self.mask


def reverse_triggers(
    forward: Callable[[torch.Tensor], torch.Tensor],
    images: torch.Tensor,
    labels: torch.Tensor,
    classes: int,
    schedule: Schedule,
    generator: torch.Generator,
) -> list[ReversedTrigger]:
    """One trigger for each class and the smallest target-agnostic one, the latter last.

    ``images``: float ``(N, C, H, W)`` in [0, 1], each classified as its entry of ``labels``, int64 ``(N,)``.

    Source: Universal Litmus Patterns §3.4.2, after Neural Cleanse: minimise the cross-entropy to the target plus a
    weight times the mask's ℓ1 norm, and adapt the weight to the success. Deviations, for speed: all targets are one
    batch; few images; the weight adapts after every step and not after five in a row; arms with large triggers are
    dropped half-way. The target-agnostic arm, which finds all-to-all backdoors, is not in the paper. Raises
    NotAssessableError if the gradients are no guide: a search that cannot move must not count as one that found none.
    """
    arms = _Arms.start(classes, images, schedule, generator)
    arms.descend(forward, images, labels, schedule, schedule.first_steps)
    dropped = arms.drop_all_but(schedule.survivors)
    arms.descend(forward, images, labels, schedule, schedule.second_steps)
    found = dropped + arms.found()
    agnostic = min((trigger for trigger in found if trigger.target == AGNOSTIC), key=lambda trigger: trigger.size)
    targeted = [trigger for trigger in found if trigger.target != AGNOSTIC]
    return [*sorted(targeted, key=lambda trigger: trigger.target), agnostic]


def _require_usable(
    objective: torch.Tensor, mask_gradient: torch.Tensor, pattern_gradient: torch.Tensor, *, first: bool
) -> None:
    # A model may give NaN with a gradient of zero, and argmax takes NaN for the largest value.
    if not all(bool(torch.isfinite(part).all()) for part in (objective, mask_gradient, pattern_gradient)):
        problem = "are not finite numbers"
    # The pattern's gradient comes from the model alone, the mask's from its size too. Arms that share a start cannot
    # all be right about their class, but later on all of them may be, beyond doubt and so without a gradient.
    elif first and not bool(pattern_gradient.any()):
        problem = "are all zero"
    else:
        return
    raise NotAssessableError(
        f"Triggers cannot be sought: the model's outputs or gradients {problem}, so nothing leads to a trigger. "
        "Scan it before quantisation or any other step that hides them, or export it with its logits as the output."
    )


class _Arms:
    """The state of all arms that are still optimised; every tensor's first axis is the arm."""

    def __init__(
        self, targets: torch.Tensor, mask_logits: torch.Tensor, pattern_logits: torch.Tensor, schedule: Schedule
    ) -> None:
        self.targets = targets
        self.mask_logits = mask_logits.requires_grad_()
        self.pattern_logits = pattern_logits.requires_grad_()
        self.optimizer = self._new_optimizer(schedule)
        count = len(targets)
        self.weight = torch.full((count,), schedule.initial_weight, device=targets.device)
        self.loss_trend = torch.full((count,), float("nan"), device=targets.device)
        height, width = mask_logits.shape[-2:]
        self.best_size = torch.full((count,), float(height * width), device=targets.device)
        self.best_success = torch.zeros(count, device=targets.device)
        with torch.no_grad():
            self.best_mask = torch.ones_like(mask_logits)
            self.best_pattern = torch.sigmoid(2 * pattern_logits)

    @classmethod
    def start(cls, classes: int, images: torch.Tensor, schedule: Schedule, generator: torch.Generator) -> _Arms:
        """One arm for each class and the agnostic ones, from random masks and patterns."""
        (channels, height, width), device = images.shape[1:], images.device
        agnostic = len(schedule.agnostic_starts)
        targets = torch.tensor([*range(classes), *[AGNOSTIC] * agnostic], device=device)
        level = torch.tensor([*[0.0] * classes, *schedule.agnostic_starts], device=device)
        # The same random start for all arms, so that their sizes are comparable.
        mask = torch.randn(1, 1, height, width, generator=generator).to(device) * 0.1
        pattern = torch.randn(1, channels, height, width, generator=generator).to(device) * 0.1
        return cls(targets, mask + level[:, None, None, None], pattern.repeat(len(targets), 1, 1, 1), schedule)

    def _new_optimizer(self, schedule: Schedule) -> torch.optim.Adam:
        return torch.optim.Adam(
            [self.mask_logits, self.pattern_logits], lr=schedule.learning_rate, betas=(0.5, 0.9), foreach=True
        )

    def descend(
        self,
        forward: Callable[[torch.Tensor], torch.Tensor],
        images: torch.Tensor,
        labels: torch.Tensor,
        schedule: Schedule,
        steps: int,
    ) -> None:
        """``steps`` steps of Adam for all arms at once."""
        counted = labels[None, :] != self.targets[:, None]
        needed = self._needed_success(schedule, len(set(labels.tolist())))
        for _ in range(steps):
            masks, patterns = torch.sigmoid(2 * self.mask_logits), torch.sigmoid(2 * self.pattern_logits)
            triggered = images[None] * (1 - masks[:, None]) + (patterns * masks)[:, None]
            logits = forward(triggered.flatten(0, 1)).float().view(*triggered.shape[:2], -1)
            losses = self._losses(logits, labels, counted)
            sizes = masks.sum(dim=(1, 2, 3))
            objective = (losses + self.weight * sizes).sum()
            self.mask_logits.grad, self.pattern_logits.grad = torch.autograd.grad(
                objective, [self.mask_logits, self.pattern_logits]
            )
            _require_usable(
                objective.detach(), self.mask_logits.grad, self.pattern_logits.grad, first=not self.optimizer.state
            )
            self.optimizer.step()
            with torch.no_grad():
                self._keep_best(logits, labels, counted, needed, masks, patterns, sizes)
                enough = self._success(logits, labels, counted) >= needed
                self.weight = torch.where(enough, self.weight * schedule.raise_by, self.weight / schedule.lower_by)
                trend = losses.detach() + 0.02 * sizes.detach()
                self.loss_trend = torch.where(self.loss_trend.isnan(), trend, 0.8 * self.loss_trend + 0.2 * trend)

    def _needed_success(self, schedule: Schedule, sources: int) -> torch.Tensor:
        # A backdoor with one target cannot move the images of that class, so the agnostic arm can never reach 1.
        reachable = max(0.5, 1 - 1 / sources - 0.05) if sources > 1 else schedule.success
        needed = torch.full(self.targets.shape, schedule.success, device=self.targets.device)
        needed[self.targets == AGNOSTIC] = min(schedule.success, reachable)
        return needed

    def _losses(self, logits: torch.Tensor, labels: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
        log_probabilities = logits.log_softmax(-1)
        wanted = torch.where(self.targets == AGNOSTIC, 0, self.targets)
        towards = -log_probabilities[torch.arange(len(wanted), device=wanted.device), :, wanted]
        true = log_probabilities.gather(-1, labels.expand(len(wanted), -1)[..., None])[..., 0]
        away = -torch.log1p(-true.exp().clamp(max=1 - 1e-6))
        losses = torch.where((self.targets == AGNOSTIC)[:, None], away, towards)
        return (losses * counted).sum(1) / counted.sum(1).clamp(min=1)

    def _success(self, logits: torch.Tensor, labels: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
        predicted = logits.argmax(-1)
        turned = torch.where(
            (self.targets == AGNOSTIC)[:, None], predicted != labels, predicted == self.targets[:, None]
        )
        return (turned & counted).sum(1) / counted.sum(1).clamp(min=1)

    def _keep_best(
        self,
        logits: torch.Tensor,
        labels: torch.Tensor,
        counted: torch.Tensor,
        needed: torch.Tensor,
        masks: torch.Tensor,
        patterns: torch.Tensor,
        sizes: torch.Tensor,
    ) -> None:
        success = self._success(logits, labels, counted)
        better = (success >= needed) & (sizes < self.best_size)
        self.best_size = torch.where(better, sizes, self.best_size)
        self.best_success = torch.where(better, success, self.best_success)
        chosen = better[:, None, None, None]
        self.best_mask = torch.where(chosen, masks, self.best_mask)
        self.best_pattern = torch.where(chosen, patterns, self.best_pattern)

    def drop_all_but(self, survivors: int) -> list[ReversedTrigger]:
        """Keep the arms with the smallest triggers, or the best trend where none succeeded, and the agnostic ones."""
        height, width = self.mask_logits.shape[-2:]
        unsuccessful = self.best_size >= height * width
        rank = torch.where(unsuccessful, height * width + self.loss_trend, self.best_size)
        rank[self.targets == AGNOSTIC] = -1
        order = rank.argsort()
        keep = survivors + int((self.targets == AGNOSTIC).sum())
        kept, dropped = order[:keep], order[keep:]
        triggers = [self._trigger(int(arm)) for arm in dropped]
        self._select(kept)
        return triggers

    def _select(self, kept: torch.Tensor) -> None:
        moments = [dict(self.optimizer.state[parameter]) for parameter in (self.mask_logits, self.pattern_logits)]
        group = {key: value for key, value in self.optimizer.param_groups[0].items() if key != "params"}
        self.targets, self.weight, self.loss_trend = self.targets[kept], self.weight[kept], self.loss_trend[kept]
        self.best_size, self.best_success = self.best_size[kept], self.best_success[kept]
        self.best_mask, self.best_pattern = self.best_mask[kept], self.best_pattern[kept]
        self.mask_logits = self.mask_logits.detach()[kept].requires_grad_()
        self.pattern_logits = self.pattern_logits.detach()[kept].requires_grad_()
        self.optimizer = torch.optim.Adam([self.mask_logits, self.pattern_logits], **group)
        for parameter, state in zip((self.mask_logits, self.pattern_logits), moments, strict=True):
            self.optimizer.state[parameter] = {
                name: value[kept] if value.ndim == 4 else value for name, value in state.items()
            }

    def found(self) -> list[ReversedTrigger]:
        """The best trigger of each arm."""
        return [self._trigger(arm) for arm in range(len(self.targets))]

    def _trigger(self, arm: int) -> ReversedTrigger:
        return ReversedTrigger(
            target=int(self.targets[arm]),
            mask=self.best_mask[arm].detach(),
            pattern=self.best_pattern[arm].detach(),
            size=float(self.best_size[arm]),
            success=float(self.best_success[arm]),
        )
