"""Detectors for tasks that they never saw: fitted on the zoos of some tasks, tested on another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..detectors.figures import held_out_figures
from ..detectors.invariant import InvariantPlan, fit_invariant
from ..detectors.litmus import PatternPlan
from ..detectors.shared import fit_shared
from ..detectors.splits import for_optimisation, for_validation, unseen_test
from ..zoo.store import Zoo, load_stack, load_zoo

Result = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class TransferPlans:
    """How the detectors are fitted.

    ``invariant``: one whose features depend on no class, which needs nothing of a new task. ``shared``: patterns whose
    class-symmetric classifier measures by clean networks of the new task.
    """

    invariant: InvariantPlan
    shared: PatternPlan


def measure_transfer(tasks: Sequence[str], folder: Path, plans: TransferPlans) -> list[Result]:
    """Both detectors, for each task: fitted on all the others ("unseen"), and fitted on all ("seen").

    ``folder`` holds a zoo for each of at least two ``tasks``.
    """
    zoos = {task: load_zoo(folder / task) for task in tasks}
    everything = _Detectors(list(zoos.values()), plans)
    rows = []
    for task, zoo in zoos.items():
        others = {name: other for name, other in zoos.items() if name != task}
        unseen = _Detectors(list(others.values()), plans).figures(zoo)
        rows.append({"task": task, "fitted_on": list(others), "unseen": unseen, "seen": everything.figures(zoo)})
    return rows


class _Detectors:
    """Both detectors, fitted on some zoos."""

    def __init__(self, zoos: Sequence[Zoo], plans: TransferPlans) -> None:
        fit, validation = ([load_stack([zoo], part) for zoo in zoos] for part in (for_optimisation, for_validation))
        self.invariant = fit_invariant(fit, validation, plans.invariant)
        self.shared = fit_shared(fit, validation, plans.shared)

    def figures(self, zoo: Zoo) -> Result:
        """What each does on the test networks of one task; the second measures by the task's clean networks."""
        test = load_stack([zoo], unseen_test([zoo]))
        measure = load_stack([zoo], for_optimisation).clean
        scores = {
            "invariant": self.invariant.scores(test),
            "class-symmetric": self.shared.for_task(measure).scores(test),
        }
        poisoned = test.poisoned.numpy()
        return {
            "measure": len(measure),
            **{
                name: held_out_figures(values[~poisoned], values[poisoned])
                for name, found in scores.items()
                for values in [found.numpy().astype(np.float64)]
            },
        }
