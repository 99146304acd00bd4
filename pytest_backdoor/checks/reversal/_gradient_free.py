"""Trigger search without gradients, for models that cannot be differentiated: windows first, then evolution."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ._candidates import FRACTIONS, mutated, screening_windows
from ._queries import AGNOSTIC, Array, Queries, margins, needed_success, round_robin, sources_of

DEFAULT_BUDGET = 200_000
SUCCESS = 0.95
SCREENING_SHARE, SCREENING_IMAGES = 0.3, 12
FIRST_SHARE = 0.25
SURVIVORS = 3
CHILDREN = 8
GLIMPSE = 10
FEASIBLE = -100.0


@dataclass(frozen=True, kw_only=True)
class FoundTrigger:
    """The smallest opaque trigger that was found for one target.

    ``target``: the class, or -1 for the target-agnostic trigger, which only has to leave the true class. ``mask``:
    float32 ``(1, H, W)`` of zeros and ones. ``pattern``: float32 ``(C, H, W)`` in [0, 1]. ``size``: the masked pixels;
    H·W if no trigger had enough success, and the mask is then that of the best one. ``success``: the share of the
    images of other classes that it turned.
    """

    target: int
    mask: Array
    pattern: Array
    size: int
    success: float


def search_triggers(
    logits: Callable[[Array], Array],
    images: Array,
    labels: Array,
    classes: int,
    *,
    budget: int = DEFAULT_BUDGET,
    generator: np.random.Generator,
    success: float = SUCCESS,
) -> list[FoundTrigger]:
    """One trigger for each class and the target-agnostic one last, from forward passes alone.

    ``logits`` maps float32 ``(N, C, H, W)`` images in [0, 1] to ``(N, classes)``; ``images``: float32 of that form,
    each classified as its entry of ``labels``, int64 ``(N,)``; ``budget``: how many images the model is run on, which
    is never exceeded. ``success``: the share of the images of other classes that a trigger must turn, less for the
    target-agnostic one.

    Coloured squares, random ones and cut-outs of the images are shown once for all targets. The best of each target
    then evolve, (1 + 8) with the moves of the Square Attack, first towards success and from then on towards fewer
    pixels. The targets with the smallest triggers, and the target-agnostic one, share what is left of the budget; the
    latter may take over a trigger of the others.
    """
    order = round_robin(labels, generator)
    queries = Queries(logits=logits, images=images[order], labels=labels[order], left=budget)
    arms = [_Arm(target=target, queries=queries, success=success) for target in [*range(classes), AGNOSTIC]]
    alive = [arm for arm in arms if len(arm.sources)]
    _screen(alive, queries, int(SCREENING_SHARE * budget), generator)
    _evolve(alive, until=queries.left - int(FIRST_SHARE * budget), generator=generator)
    targeted = sorted((arm for arm in alive if arm.target != AGNOSTIC), key=lambda arm: arm.best_cost)
    agnostic = arms[-1]
    _adopt(agnostic, targeted[:1])
    finalists = [*targeted[:SURVIVORS], agnostic]
    _evolve(finalists, until=queries.left // 2, generator=generator)
    _evolve(sorted(finalists, key=lambda arm: arm.best_cost)[:1], until=queries.left // 20, generator=generator)
    _adopt(agnostic, targeted[:SURVIVORS])
    return [arm.found() for arm in arms]


@dataclass(frozen=True, kw_only=True)
class _State:
    """A trigger, by how much it turns each of its arm's images, and the cost by which triggers are compared."""

    mask: Array
    pattern: Array
    margins: Array
    cost: float

    @property
    def feasible(self) -> bool:
        return self.cost < FEASIBLE / 2


@dataclass(kw_only=True)
class _Arm:
    """The search for one target: up to two triggers that evolve side by side."""

    target: int
    queries: Queries
    success: float
    states: list[_State] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sources = sources_of(self.queries.labels, self.target)
        self.needed = needed_success(self.queries.labels, self.target, self.success)
        _, height, width = self.queries.images.shape[1:]
        self.area = height * width

    @property
    def best_cost(self) -> float:
        return min((state.cost for state in self.states), default=math.inf)

    def cost(self, found: Array, area: float) -> float:
        """What is minimised: ln(area), and either that success is missing or, a little, that it is narrow.

        ``found``: margins ``(n,)``. The softplus of the margins says how far images are from turning.
        """
        missing = float(np.logaddexp(0, -found / self.queries.scale).mean()) / math.log(2)
        if float((found > 0).mean()) >= self.needed:
            return FEASIBLE + math.log(area) + 0.05 * missing
        return math.log(area) + 2 * missing

    def evaluate(self, mask: Array, pattern: Array) -> _State:
        found = self.margins_of(mask[None], pattern[None], np.arange(len(self.sources)))[0]
        return self.state(mask, pattern, found)

    def state(self, mask: Array, pattern: Array, found: Array) -> _State:
        return _State(mask=mask, pattern=pattern, margins=found, cost=self.cost(found, mask.sum()))

    def margins_of(self, masks: Array, patterns: Array, chosen: Array) -> Array:
        """Margins ``(B, n)`` of ``B`` triggers on the ``chosen`` ones of this arm's images."""
        rows = self.sources[chosen]
        return margins(self.queries.answers(masks, patterns, rows), self.queries.labels[rows], self.target)

    def step(self, number: int, generator: np.random.Generator) -> None:
        """Let one of the states have children, and the best of them take its place if it is better.

        All children are seen on a few images, and only the best on the others, since most children are worse.
        """
        parent = self.states[number]
        growing = not parent.feasible
        children = [mutated(parent.mask, parent.pattern, growing=growing, generator=generator) for _ in range(CHILDREN)]
        masks, patterns = (np.stack(parts) for parts in zip(*children, strict=True))
        order = generator.permutation(len(self.sources))
        glimpse, rest = order[:GLIMPSE], order[GLIMPSE:]
        seen = self.margins_of(masks, patterns, glimpse)
        costs = [self.cost(found, mask.sum()) for found, mask in zip(seen, masks, strict=True)]
        best = int(np.argmin(costs))
        if costs[best] >= self.cost(parent.margins[glimpse], parent.mask.sum()):
            return
        found = np.empty(len(order), seen.dtype)
        found[glimpse] = seen[best]
        if len(rest):
            found[rest] = self.margins_of(masks[best : best + 1], patterns[best : best + 1], rest)[0]
        child = self.state(masks[best], patterns[best], found)
        if child.cost < parent.cost:
            self.states[number] = child

    def found(self) -> FoundTrigger:
        if not self.states:
            _, height, width = self.queries.images.shape[1:]
            mask, pattern = np.ones((height, width), bool), np.zeros(self.queries.images.shape[1:], np.float32)
            return self._trigger(mask, pattern, self.area, 0.0)
        best = min(self.states, key=lambda state: state.cost)
        size = int(best.mask.sum()) if best.feasible else self.area
        return self._trigger(best.mask, best.pattern, size, float((best.margins > 0).mean()))

    def _trigger(self, mask: Array, pattern: Array, size: int, success: float) -> FoundTrigger:
        return FoundTrigger(
            target=self.target,
            mask=mask[None].astype(np.float32),
            pattern=pattern.astype(np.float32),
            size=size,
            success=success,
        )


def _screen(arms: list[_Arm], queries: Queries, budget: int, generator: np.random.Generator) -> None:
    """Show every window to a few images, and give each arm the cheapest one and the cheapest one with success."""
    chosen = np.arange(min(SCREENING_IMAGES, len(queries.labels)))
    starts = len(queries.labels) * (1 + 2 * len(arms))
    count = (budget - starts) // max(1, len(chosen))
    if count < len(FRACTIONS):
        return
    queries.measure_scale()
    best: list[dict[bool, tuple[float, Array, Array]]] = [{} for _ in arms]
    for masks, patterns in screening_windows(queries.images, queries.labels, count, generator):
        answers = queries.answers(masks, patterns, chosen)
        for arm, kept in zip(arms, best, strict=True):
            _keep_cheapest(arm, kept, masks, patterns, answers, queries.labels[chosen])
    for arm, kept in zip(arms, best, strict=True):
        arm.states = [arm.evaluate(mask, pattern) for _, mask, pattern in kept.values()]


def _keep_cheapest(
    arm: _Arm,
    kept: dict[bool, tuple[float, Array, Array]],
    masks: Array,
    patterns: Array,
    answers: Array,
    labels: Array,
) -> None:
    """Update the cheapest windows, with their cost, ``kept`` by whether they have success."""
    counted = labels != arm.target
    if not counted.any():
        return
    found = margins(answers, labels, arm.target)[:, counted]
    costs = [arm.cost(row, area) for row, area in zip(found, masks.sum((1, 2)), strict=True)]
    for index in np.argsort(costs, kind="stable")[::-1]:
        feasible = costs[index] < FEASIBLE / 2
        if costs[index] < kept.get(feasible, (math.inf,))[0]:
            kept[feasible] = (costs[index], masks[index].copy(), patterns[index].copy())


def _adopt(arm: _Arm, others: list[_Arm]) -> None:
    """Let ``arm`` have the other arms' best triggers where they are better than its own worst."""
    for other in others:
        if not other.states or arm.queries.left < len(arm.sources):
            continue
        best = min(other.states, key=lambda state: state.cost)
        adopted = arm.evaluate(best.mask, best.pattern)
        arm.states = sorted([adopted, *arm.states], key=lambda state: state.cost)[:2]


def _evolve(arms: list[_Arm], *, until: int, generator: np.random.Generator) -> None:
    """Steps of all arms' states in turn, until ``until`` forward passes are left."""
    arms = [arm for arm in arms if arm.states]
    turn = 0
    while arms:
        for arm in arms:
            if arm.queries.left - CHILDREN * GLIMPSE - len(arm.sources) < until:
                return
            arm.step(turn % len(arm.states), generator)
        turn += 1
