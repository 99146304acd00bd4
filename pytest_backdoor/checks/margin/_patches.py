"""Patches that are optimised to raise the margin of every class, in batches of bounded size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

CORNERS = ("top left", "top right", "bottom left", "bottom right")
MIDDLE = "middle"


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how hard the optimisation looks.

    ``steps`` of sign ascent with ``momentum``, whose width shrinks geometrically from ``first_step`` to ``last_step``,
    in units of the range of a pixel. ``views``: on how many images a step looks at a patch that has one place, and
    ``middle_views`` at one that is shown anywhere on the middle. ``test_images`` and ``test_places``: on how many
    images, and at how many places in the middle, the final margins are measured. ``largest_batch``: images at once.
    """

    steps: int = 20
    first_step: float = 0.3
    last_step: float = 0.02
    momentum: float = 0.8
    views: int = 1
    middle_views: int = 4
    test_images: int = 6
    test_places: int = 3
    largest_batch: int = 256

    def views_at(self, place: Place) -> int:
        """How many images a step takes for one patch."""
        return self.middle_views if place.name == MIDDLE else self.views


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a patch may lie: int64 ``offsets`` ``(O, 2)``, row and column of its upper left pixel; ``size`` in pixels.

    ``size``: (height, width).
    """

    name: str
    offsets: torch.Tensor
    size: tuple[int, int]


def places(image_size: torch.Size) -> list[Place]:
    """The four corners, and the central two thirds of an image of ``image_size`` (H, W).

    A patch in a corner is 2 pixels wider, so that a trigger that leaves a pixel free at the border lies within it.
    """
    height, width = image_size
    small = max(1, round(height / 6)), max(1, round(width / 6))
    large = min(height, small[0] + 2), min(width, small[1] + 2)
    corners = [(row, column) for row in (0, height - large[0]) for column in (0, width - large[1])]
    rows, columns = (
        torch.arange(length // 6, length - length // 6 - part + 1)
        for length, part in ((height, small[0]), (width, small[1]))
    )
    named = zip(CORNERS, corners, strict=True)
    return [
        *[Place(name=name, offsets=torch.tensor([corner]), size=large) for name, corner in named],
        Place(name=MIDDLE, offsets=torch.cartesian_prod(rows, columns), size=small),
    ]


@dataclass(frozen=True, kw_only=True)
class Question:
    """The model, and what it is shown.

    ``logits``: float ``(N, K)``, its answers to ``images``, ``(N, C, H, W)``. ``order``: int64 ``(K, L)``, for each
    class the images of other classes in random order, over and over.
    """

    forward: Callable[[torch.Tensor], torch.Tensor]
    images: torch.Tensor
    logits: torch.Tensor
    order: torch.Tensor

    @classmethod
    def ask(
        cls,
        forward: Callable[[torch.Tensor], torch.Tensor],
        images: torch.Tensor,
        logits: torch.Tensor,
        schedule: Schedule,
        generator: torch.Generator,
    ) -> Question:
        """The question with an order drawn from ``generator``; every class has images of others."""
        needed = max(schedule.steps * max(schedule.views, schedule.middle_views), schedule.test_images)
        shuffled = torch.randperm(len(images), generator=generator).to(images.device)
        given = logits.argmax(1)[shuffled]
        rows = []
        for target in range(logits.shape[1]):
            others = shuffled[given != target]
            rows.append(others.repeat(-(-needed // len(others)))[:needed])
        return cls(forward=forward, images=images, logits=logits, order=torch.stack(rows))

    @property
    def classes(self) -> int:
        """K."""
        return self.logits.shape[1]

    def show(self, place: Place, patches: torch.Tensor) -> torch.Tensor:
        """Float ``(K, C, H, W)``: for each class its patch on one image, at the middle one of its offsets."""
        return paste(
            self.images[self.order[:, 0]], patches, place.offsets[len(place.offsets) // 2].expand(len(patches), 2)
        )


def margin(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Float ``(N,)``: z_target - max of the other logits, of logits ``(N, K)`` and int64 targets ``(N,)``."""
    own = logits.gather(1, targets[:, None])
    return (own - logits.scatter(1, targets[:, None], -torch.inf).amax(1, keepdim=True))[:, 0]


def log_odds(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Float ``(N,)``: the same with the log-sum-exp of the other logits, a smooth maximum."""
    own = logits.gather(1, targets[:, None])
    return (own - logits.scatter(1, targets[:, None], -torch.inf).logsumexp(1, keepdim=True))[:, 0]


def paste(images: torch.Tensor, patches: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """``images`` ``(N, C, H, W)`` with one of ``patches`` ``(N, C, h, w)`` each, at ``offsets`` ``(N, 2)``.

    One scatter, since assigning to slices would make autograd copy the whole batch for every image.
    """
    (channels, height, width), (high, wide) = images.shape[1:], patches.shape[-2:]
    device = images.device
    rows = offsets[:, 0].to(device)[:, None, None, None] + torch.arange(high, device=device)[:, None]
    columns = offsets[:, 1].to(device)[:, None, None, None] + torch.arange(wide, device=device)
    planes = torch.arange(channels, device=device)[:, None, None] * (height * width)
    pixels = (planes + rows * width + columns).flatten(1)
    return images.flatten(1).scatter(1, pixels, patches.flatten(1)).view_as(images)


def _chunks(classes: int, for_each: int, schedule: Schedule) -> Iterator[torch.Tensor]:
    """The classes 0 to K - 1 in parts that need no more than ``largest_batch`` images."""
    part = max(1, schedule.largest_batch // for_each)
    return (torch.arange(start, min(start + part, classes)) for start in range(0, classes, part))


def grey(count: int, images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """The patches that every search starts from, float ``(count, C, h, w)``, for ``images`` ``(N, C, H, W)``."""
    return torch.full((count, images.shape[1], *size), 0.5, device=images.device)


def best_patches(
    question: Question, place: Place, schedule: Schedule, generator: torch.Generator
) -> tuple[torch.Tensor, bool]:
    """One patch for each class, float ``(K, C, h, w)`` in [0, 1], and whether any gradient was not zero.

    All classes see the same images, but for their own, at the same offsets. A gradient that is not finite makes the
    patch NaN.
    """
    views = schedule.views_at(place)
    drawn = torch.randint(len(place.offsets), (schedule.steps, views), generator=generator)
    offsets = place.offsets[drawn]
    parts, steep = [], False
    for targets in _chunks(question.classes, views, schedule):
        patches, moved = _ascend(question, targets.to(question.images.device), offsets, place.size, schedule)
        parts.append(patches)
        steep = steep or moved
    return torch.cat(parts), steep


def _ascend(
    question: Question, targets: torch.Tensor, offsets: torch.Tensor, size: tuple[int, int], schedule: Schedule
) -> tuple[torch.Tensor, bool]:
    images, (steps, views) = question.images, offsets.shape[:2]
    patches = grey(len(targets), images, size)
    velocity, steep = torch.zeros_like(patches), False
    repeated = targets.repeat_interleave(views)
    for step in range(steps):
        seen = question.order[targets, step * views : (step + 1) * views].flatten()
        patches.requires_grad_()
        shown = paste(images[seen], patches.repeat_interleave(views, 0), offsets[step].repeat(len(targets), 1))
        objective = log_odds(question.forward(shown), repeated).sum()
        (gradient,) = torch.autograd.grad(objective, [patches])
        strength = gradient.abs().mean((1, 2, 3), keepdim=True)
        steep = steep or bool(strength.any())
        with torch.no_grad():
            velocity = schedule.momentum * velocity + gradient / strength.clamp(min=1e-30)
            moved = patches + _step_width(step, schedule) * velocity.sign()
            # The sign of NaN is 0, and a model may give NaN with a finite gradient.
            usable = bool(torch.isfinite(objective)) and bool(torch.isfinite(gradient).all())
            patches = moved.clamp(0, 1) if usable else torch.full_like(moved, torch.nan)
    return patches.detach(), steep


def _step_width(step: int, schedule: Schedule) -> float:
    done = step / max(1, schedule.steps - 1)
    return float(schedule.first_step * (schedule.last_step / schedule.first_step) ** done)


def margins_with(question: Question, place: Place, patches: torch.Tensor, schedule: Schedule) -> torch.Tensor:
    """Float ``(K,)``: the mean margin of each class on images with its patch."""
    count = min(schedule.test_images, question.order.shape[1])
    evenly = torch.linspace(0, len(place.offsets) - 1, min(schedule.test_places, len(place.offsets)))
    offsets = place.offsets[evenly.round().long()]
    parts = []
    for targets in _chunks(question.classes, count * len(offsets), schedule):
        seen = question.order[targets, :count].repeat_interleave(len(offsets), 1).flatten()
        views = count * len(offsets)
        shown = paste(
            question.images[seen],
            patches[targets].repeat_interleave(views, 0),
            offsets.repeat(count * len(targets), 1),
        )
        with torch.no_grad():
            logits = question.forward(shown)
        repeated = targets.to(logits.device).repeat_interleave(views)
        parts.append(margin(logits, repeated).view(len(targets), views).mean(1))
    return torch.cat(parts)
