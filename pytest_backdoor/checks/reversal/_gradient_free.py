"""Trigger search without gradients, for models that cannot be differentiated: windows first, then evolution."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ._arm import CHILDREN, GLIMPSE, Arm, FoundTrigger
from ._candidates import FRACTIONS, screening_windows
from ._queries import AGNOSTIC, Array, Queries, round_robin

__all__ = ["DEFAULT_BUDGET", "FoundTrigger", "search_triggers"]

DEFAULT_BUDGET = 200_000
SUCCESS = 0.95
SCREENING_SHARE, SCREENING_IMAGES = 0.3, 12
FIRST_SHARE = 0.25
SURVIVORS = 3
MOST_STATES, RESERVES = 2, 4


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
    at least one, each classified as its entry of ``labels``, int64 ``(N,)``; ``budget``: on how many images the model
    is run at most. ``success``: the share of the images of other classes that a trigger must turn, less for the
    target-agnostic one.

    Coloured squares, random ones and cut-outs of the images are shown once for all targets. The best of each target
    then evolve, (1 + 8) with the moves of the Square Attack, first towards success and from then on towards fewer
    pixels. The targets with the smallest triggers, and the target-agnostic one, share what is left of the budget; the
    latter may take over a trigger of the others.
    """
    order = round_robin(labels, generator)
    queries = Queries(logits=logits, images=images[order], labels=labels[order], left=budget)
    arms = [Arm(target=target, queries=queries, success=success) for target in [*range(classes), AGNOSTIC]]
    alive = [arm for arm in arms if len(arm.sources)]
    _screen(alive, queries, int(SCREENING_SHARE * budget), generator)
    _evolve(alive, until=queries.left - int(FIRST_SHARE * budget), generator=generator)
    targeted = sorted((arm for arm in alive if arm.target != AGNOSTIC), key=lambda arm: arm.best_cost)
    agnostic = arms[-1]
    _adopt(agnostic, targeted[:1])
    finalists = [*targeted[:SURVIVORS], agnostic]
    for arm in finalists:
        arm.start(RESERVES)
    _evolve(finalists, until=2 * queries.left // 3, generator=generator)
    for arm in finalists:
        arm.keep(MOST_STATES)
    _evolve(finalists, until=queries.left // 2, generator=generator)
    _evolve(sorted(finalists, key=lambda arm: arm.best_cost)[:1], until=queries.left // 20, generator=generator)
    _adopt(agnostic, targeted[:SURVIVORS])
    return [arm.found() for arm in arms]


def _screen(arms: list[Arm], queries: Queries, budget: int, generator: np.random.Generator) -> None:
    """Show every window to a few images, and give each arm the cheapest with and the cheapest without success."""
    chosen = np.arange(min(SCREENING_IMAGES, len(queries.labels)))
    starts = len(queries.labels) * (1 + MOST_STATES * len(arms))
    count = (budget - starts) // max(1, len(chosen))
    if count < len(FRACTIONS):
        return
    queries.measure_scale()
    for masks, patterns in screening_windows(queries.images, queries.labels, count, generator):
        answers = queries.answers(masks, patterns, chosen)
        for arm in arms:
            arm.glance(masks, patterns, answers, queries.labels[chosen])
    for arm in arms:
        arm.start(MOST_STATES)


def _adopt(arm: Arm, others: list[Arm]) -> None:
    """Let ``arm`` have the other arms' best triggers where they are better than its own worst."""
    for other in others:
        if not other.states or arm.queries.left < len(arm.sources):
            continue
        best = min(other.states, key=lambda state: state.cost)
        adopted = arm.evaluate(best.mask, best.pattern)
        arm.states = sorted([adopted, *arm.states], key=lambda state: state.cost)[:MOST_STATES]


def _evolve(arms: list[Arm], *, until: int, generator: np.random.Generator) -> None:
    """Steps of all arms' states in turn, until ``until`` forward passes are left."""
    arms = [arm for arm in arms if arm.states]
    turn = 0
    while arms:
        for arm in arms:
            if arm.queries.left - CHILDREN * GLIMPSE - len(arm.sources) < until:
                return
            arm.step(turn % len(arm.states), generator)
        turn += 1
