"""A detector for tasks that it never saw: fitted on the zoos of some tasks, tested on another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..detectors.figures import held_out_figures
from ..detectors.invariant import FittedInvariant, InvariantPlan, fit_invariant
from ..detectors.splits import for_optimisation, for_validation, unseen_test
from ..zoo.store import NetworkStack, Zoo, load_stack, load_zoo

Result = dict[str, Any]


def measure_transfer(tasks: Sequence[str], folder: Path, plan: InvariantPlan) -> list[Result]:
    """The class-count-independent detector, for each task: fitted on all the others, and fitted on all.

    ``folder`` holds a zoo for each of at least two ``tasks``.
    """
    zoos = {task: load_zoo(folder / task) for task in tasks}
    everything = _fit(list(zoos.values()), plan)
    rows = []
    for task, zoo in zoos.items():
        others = {name: other for name, other in zoos.items() if name != task}
        test = load_stack([zoo], unseen_test([zoo]))
        unseen = _figures(_fit(list(others.values()), plan), test)
        rows.append({"task": task, "fitted_on": list(others), "others": unseen, "all": _figures(everything, test)})
    return rows


def _fit(zoos: Sequence[Zoo], plan: InvariantPlan) -> FittedInvariant:
    fit, validation = ([load_stack([zoo], part) for zoo in zoos] for part in (for_optimisation, for_validation))
    return fit_invariant(fit, validation, plan)


def _figures(fitted: FittedInvariant, test: NetworkStack) -> Result:
    scores, poisoned = fitted.scores(test).numpy().astype(np.float64), test.poisoned.numpy()
    return held_out_figures(scores[~poisoned], scores[poisoned])
