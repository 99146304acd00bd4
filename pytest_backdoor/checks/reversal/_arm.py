"""The search for one target without gradients: a few triggers that evolve side by side."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from ._candidates import mutated
from ._queries import Array, Queries, margins, needed_success, sources_of

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


@dataclass(frozen=True, kw_only=True)
class State:
    """A trigger, by how much it turns each of its arm's images, and the cost by which triggers are compared."""

    mask: Array
    pattern: Array
    margins: Array
    cost: float

    @property
    def feasible(self) -> bool:
        """Whether enough images are turned."""
        return self.cost < FEASIBLE / 2

    @property
    def promise(self) -> float:
        """See ``promise``."""
        return promise(self.cost)


@dataclass(frozen=True, kw_only=True)
class Window:
    """A trigger of the screening and its cost on the images of the screening."""

    mask: Array
    pattern: Array
    cost: float


def promise(cost: float) -> float:
    """A cost without the advantage of having success already."""
    return cost - FEASIBLE if cost < FEASIBLE / 2 else cost


@dataclass(kw_only=True)
class Arm:
    """The search for one target: triggers that evolve side by side.

    ``reserve``: the cheapest window of each size, and of those with and without success at a glimpse.
    """

    target: int
    queries: Queries
    success: float
    states: list[State] = field(default_factory=list)
    reserve: dict[tuple[int, bool], Window] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.sources = sources_of(self.queries.labels, self.target)
        self.needed = needed_success(self.queries.labels, self.target, self.success)
        _, height, width = self.queries.images.shape[1:]
        self.area = height * width

    @property
    def best_cost(self) -> float:
        """The cost of the cheapest state, infinite without any."""
        return min((state.cost for state in self.states), default=math.inf)

    def cost(self, found: Array, area: float) -> float:
        """What is minimised: ln(area), and either that success is missing or, a little, that it is narrow.

        ``found``: margins ``(n,)``. The softplus of the margins says how far images are from turning.
        """
        missing = float(np.logaddexp(0, -found / self.queries.scale).mean()) / math.log(2)
        if float((found > 0).mean()) >= self.needed:
            return FEASIBLE + math.log(area) + 0.05 * missing
        return math.log(area) + 2 * missing

    def evaluate(self, mask: Array, pattern: Array) -> State:
        """The state of a trigger, seen on all of this arm's images."""
        found = self.margins_of(mask[None], pattern[None], np.arange(len(self.sources)))[0]
        return self.state(mask, pattern, found)

    def state(self, mask: Array, pattern: Array, found: Array) -> State:
        """The state of a trigger whose margins ``(n,)`` are known."""
        return State(mask=mask, pattern=pattern, margins=found, cost=self.cost(found, mask.sum()))

    def glance(self, masks: Array, patterns: Array, answers: Array, labels: Array) -> None:
        """Keep windows of one size in reserve that are cheaper than those before; ``answers``: their logits."""
        counted = labels != self.target
        if not counted.any():
            return
        found = margins(answers, labels, self.target)[:, counted]
        costs = [self.cost(row, area) for row, area in zip(found, masks.sum((1, 2)), strict=True)]
        for index in np.argsort(costs, kind="stable")[::-1]:
            key = (int(masks[index].sum()), costs[index] < FEASIBLE / 2)
            if key not in self.reserve or costs[index] < self.reserve[key].cost:
                self.reserve[key] = Window(mask=masks[index].copy(), pattern=patterns[index].copy(), cost=costs[index])

    def start(self, count: int) -> None:
        """Turn ``count`` windows of the reserve into states, the most promising of either kind first."""
        order = sorted(self.reserve, key=lambda key: promise(self.reserve[key].cost))
        firsts = [next((key for key in order if key[1] == feasible), None) for feasible in (True, False)]
        chosen = list(dict.fromkeys(key for key in (*firsts, *order) if key is not None))[:count]
        for key in chosen:
            if self.queries.left >= len(self.sources):
                window = self.reserve.pop(key)
                self.states.append(self.evaluate(window.mask, window.pattern))

    def keep(self, count: int) -> None:
        """Keep the ``count`` most promising states."""
        self.states = sorted(self.states, key=lambda state: state.promise)[:count]

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
        """The best state's trigger; a black one of the whole image that turns nothing where there is none."""
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
