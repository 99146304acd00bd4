"""Building a detector pack from zoos, and writing down how good it is."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from pytest_backdoor.calibration import DetectorPack, ReferenceScores

from ..zoo.store import NetworkStack, Zoo, load_stack
from .figures import area_under_curve, held_out_figures
from .litmus import FittedLitmus, LitmusPlan, fit_litmus
from .prototypes import TaskTemplates, make_templates
from .splits import for_calibration, for_optimisation, for_validation, unseen_test


@dataclass(frozen=True, kw_only=True)
class Stacks:
    """The networks of one task, by what they are for."""

    fit: NetworkStack
    validation: NetworkStack
    calibration: NetworkStack
    test: NetworkStack

    def counts(self) -> dict[str, dict[str, int]]:
        """How many clean and poisoned networks each part holds."""
        parts = {name: getattr(self, name) for name in ("fit", "validation", "calibration", "test")}
        return {
            name: {"clean": int((~stack.poisoned).sum()), "poisoned": int(stack.poisoned.sum())}
            for name, stack in parts.items()
        }


def load_stacks(zoos: Sequence[Zoo]) -> Stacks:
    """All networks of ``zoos``. Raises ValueError if they are of different tasks or a part is empty."""
    first = zoos[0]
    for zoo in zoos[1:]:
        if (zoo.input_shape, zoo.classes) != (first.input_shape, first.classes):
            raise ValueError(f"{zoo.folder} and {first.folder} hold networks of different tasks.")
    return Stacks(
        fit=load_stack(zoos, for_optimisation),
        validation=load_stack(zoos, for_validation),
        calibration=load_stack(zoos, for_calibration),
        test=load_stack(zoos, unseen_test(zoos)),
    )


def fit_pack(zoos: Sequence[Zoo], plan: LitmusPlan, *, name: str, command: str) -> DetectorPack:
    """A pack with patterns, classifier and the litmus reference scores; its held-out figures are in ``built``."""
    stacks = load_stacks(zoos)
    fitted = fit_with_progress(stacks, plan)
    reference = fitted.scores(stacks.calibration).numpy().astype(np.float64)
    templates = make_templates(fitted.patterns, stacks.fit.clean, stacks.calibration, plan.seed)
    classifier = fitted.classifier
    return DetectorPack(
        name=name,
        input_shape=stacks.fit.input_shape,
        classes=stacks.fit.classes,
        patterns=fitted.patterns.numpy(),
        weights=classifier.weights.numpy(),
        bias=classifier.bias,
        gain=classifier.gain,
        offsets=None if classifier.offsets is None else classifier.offsets.numpy(),
        pattern_template=templates.pattern_template,
        sure_similarity=templates.sure_similarity,
        prototypes=templates.prototypes.numpy(),
        prototype_template=templates.prototype_template,
        least_similarity=templates.least_similarity,
        references={
            "litmus": ReferenceScores(
                scores=reference, description=f"{len(reference)} clean networks that the patterns were not fitted on"
            )
        },
        built={
            "command": command,
            "plan": asdict(plan),
            "networks": stacks.counts(),
            "families": {
                part: sorted({record["family"] for record in stack.records})
                for part, stack in (("fit", stacks.fit), ("calibration", stacks.calibration))
            },
            "versions": {package: version(package) for package in ("pytest-backdoor", "torch", "numpy")},
            "python": platform.python_version(),
            "litmus": litmus_figures(fitted, stacks, reference),
            "recognised": recognised(templates, stacks.test),
        },
    )


def fit_with_progress(stacks: Stacks, plan: LitmusPlan) -> FittedLitmus:
    """Fit while a bar shows the epochs."""
    from rich.progress import Progress

    with Progress() as progress:
        bar = progress.add_task("Fitting patterns", total=plan.epochs)
        return fit_litmus(
            stacks.fit, stacks.validation, plan, on_epoch=lambda epoch, _: progress.update(bar, completed=epoch)
        )


def litmus_figures(fitted: FittedLitmus, stacks: Stacks, reference: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Area under the ROC curve on the fit and the test networks, and rates at fixed significance."""
    fit_clean, fit_poisoned = scores_by_kind(fitted, stacks.fit)
    clean, backdoored = scores_by_kind(fitted, stacks.test)
    fit_auc = round(area_under_curve(fit_clean, fit_poisoned), 4)
    return {"fit_auc": fit_auc, **held_out_figures(clean, backdoored, reference)}


def recognised(templates: TaskTemplates, stack: NetworkStack) -> dict[str, int]:
    """How many clean and how many poisoned networks the litmus check would judge."""
    known, is_poisoned = templates.recognised(stack), stack.poisoned.numpy()
    return {"clean": int(known[~is_poisoned].sum()), "poisoned": int(known[is_poisoned].sum())}


def scores_by_kind(fitted: FittedLitmus, stack: NetworkStack) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The scores of the clean networks and those of the poisoned ones."""
    scores, is_poisoned = fitted.scores(stack).numpy().astype(np.float64), stack.poisoned.numpy()
    return scores[~is_poisoned], scores[is_poisoned]
