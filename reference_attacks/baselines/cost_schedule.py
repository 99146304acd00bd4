"""Neural Cleanse's counters: how the weight of the mask's size moves, and when a search stops early.

Source: ``visualizer.py`` of the authors' repository bolunwang/backdoor, rewritten from its behaviour.
"""

from __future__ import annotations

import math


class CostSchedule:
    """The weight of the mask's ℓ1 norm, called cost, from step to step.

    It starts at 0 and becomes ``initial`` after ``patience`` successful steps in a row. From then on ``patience``
    successful steps in a row multiply it by ``multiplier``, and as many failed ones divide it by multiplier^1.5. The
    start is guarded by ``cost == 0``: without that guard every fifth success would set the cost back, and it would
    never rise.
    """

    def __init__(self, *, initial: float, multiplier: float, patience: int) -> None:
        self.cost = 0.0
        self.ups = 0
        self.downs = 0
        self._initial = initial
        self._up = multiplier
        self._down = multiplier**1.5
        self._patience = patience
        self._successes_at_zero = 0
        self._successes = 0
        self._failures = 0

    @property
    def settled(self) -> bool:
        """Whether the cost has moved both up and down since it was set."""
        return self.ups > 0 and self.downs > 0

    def update(self, *, success: bool) -> None:
        """Count one step."""
        self._start(success=success)
        if success:
            self._successes, self._failures = self._successes + 1, 0
        else:
            self._successes, self._failures = 0, self._failures + 1
        if self._successes >= self._patience:
            self._successes = 0
            self.cost *= self._up
            self.ups += 1
        elif self._failures >= self._patience:
            self._failures = 0
            self.cost /= self._down
            self.downs += 1

    def _start(self, *, success: bool) -> None:
        if self.cost != 0 or not success:
            self._successes_at_zero = 0
            return
        self._successes_at_zero += 1
        if self._successes_at_zero >= self._patience:
            self.cost = self._initial
            self._successes = self._failures = self.ups = self.downs = 0


class EarlyStop:
    """Stops a search whose best norm has not fallen below ``threshold`` of itself for ``patience`` steps.

    It takes a cost that has moved both ways (``CostSchedule.settled``), and a trigger that succeeded.
    """

    def __init__(self, *, threshold: float, patience: int) -> None:
        self._threshold = threshold
        self._patience = patience
        self._best = math.inf
        self._idle = 0

    def reached(self, best_norm: float, *, settled: bool) -> bool:
        """Count one step. ``best_norm``: of the smallest trigger that succeeded so far, infinite before there is one.

        ``settled`` is that of the schedule before this step's ``update``.
        """
        if math.isfinite(best_norm):
            self._idle = self._idle + 1 if best_norm >= self._threshold * self._best else 0
        self._best = min(self._best, best_norm)
        return settled and self._idle >= self._patience
