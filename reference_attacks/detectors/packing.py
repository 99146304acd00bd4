"""Building a detector pack from a zoo, and writing down how good it is."""

from __future__ import annotations

import platform
from dataclasses import asdict, replace
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from pytest_backdoor.calibration import DetectorPack, ReferenceScores, conformal_p_value

from ..zoo.store import NetworkStack, load_stack
from .litmus import FittedLitmus, LitmusPlan, area_under_curve, fit_litmus
from .prototypes import fit_prototypes, least_recognised, recognised_prototypes

VALIDATION_TRIGGERS = (8, 9)
VALIDATION_SHARE = 5
BOOTSTRAPS = 2000


def without_seen_pairs(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """``records`` without test networks whose source-target pair occurs in a network to fit on.

    Within one zoo there are none; a zoo of another seed divides the pairs differently.
    """
    seen = {
        (record["source"], record["target"]) for record in records if record["split"] == "fit" and _poisoned(record)
    }
    return [
        record
        for record in records
        if record["split"] != "test" or not _poisoned(record) or (record["source"], record["target"]) not in seen
    ]


def split_for_fitting(records: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The networks of the fit split to optimise on, and those that choose the epoch.

    The latter have triggers of their own, because the question is how patterns do on triggers that they never saw.
    """
    fit = [record for record in records if record["split"] == "fit"]
    validation = [
        record
        for number, record in enumerate(fit)
        if record["trigger"] in VALIDATION_TRIGGERS or (record["trigger"] is None and number % VALIDATION_SHARE == 0)
    ]
    names = {record["name"] for record in validation}
    return [record for record in fit if record["name"] not in names], validation


def fit_pack(records: list[dict[str, Any]], plan: LitmusPlan, *, name: str, command: str) -> DetectorPack:
    """A pack with patterns, classifier and the litmus reference scores; its held-out figures are in ``built``."""
    from rich.progress import Progress

    optimised, validation = split_for_fitting(records)
    stacks = {part: load_stack(chosen) for part, chosen in (("fit", optimised), ("validation", validation))}
    input_shape = (1, 28, 28)
    with Progress() as progress:
        task = progress.add_task("Fitting patterns", total=plan.epochs)
        fitted = fit_litmus(
            stacks["fit"],
            stacks["validation"],
            input_shape,
            plan,
            on_epoch=lambda epoch, _: progress.update(task, completed=epoch),
        )
    calibration = load_stack([record for record in records if record["split"] == "calibration"])
    test = load_stack([record for record in records if record["split"] == "test"])
    reference = fitted.scores(calibration).numpy().astype(np.float64)
    prototypes = fit_prototypes(_clean_part(stacks["fit"]), input_shape, plan.seed)
    recognised = recognised_prototypes(prototypes, calibration)
    return DetectorPack(
        name=name,
        input_shape=input_shape,
        classes=int(fitted.weights.numel() / plan.patterns),
        patterns=fitted.patterns.numpy(),
        weights=fitted.weights.numpy(),
        bias=fitted.bias,
        prototypes=prototypes.numpy(),
        least_recognised=least_recognised(recognised, len(prototypes)),
        references={
            "litmus": ReferenceScores(
                scores=reference, description=f"{len(reference)} clean networks that the patterns were not fitted on"
            )
        },
        built={
            "command": command,
            "plan": asdict(plan),
            "networks": {
                "fit": _counts(stacks["fit"]),
                "validation": _counts(stacks["validation"]),
                "calibration": _counts(calibration),
                "test": _counts(test),
            },
            "versions": {package: version(package) for package in ("pytest-backdoor", "torch", "numpy")},
            "python": platform.python_version(),
            "litmus": litmus_figures(fitted, stacks["fit"], test, reference),
            "prototypes_recognised": {"fewest": int(recognised.min()), "mean": round(float(recognised.mean()), 3)},
        },
    )


def add_reversal(pack: DetectorPack, scores: list[dict[str, float]], records: list[dict[str, Any]]) -> DetectorPack:
    """``pack`` with the reference scores of trigger reversal, and what they say about the test networks.

    ``scores``: one entry for each of ``records``.
    """
    references, figures = dict(pack.references), {}
    for kind in ("samples", "stand-ins"):
        parts: dict[tuple[str, bool], list[float]] = {}
        for found, record in zip(scores, records, strict=True):
            parts.setdefault((record["split"], _poisoned(record)), []).append(found[kind])
        clean = np.array(parts["calibration", False])
        references[f"reversal-{kind}"] = ReferenceScores(
            scores=clean, description=f"{len(clean)} clean networks, triggers sought on {kind}"
        )
        figures[kind] = held_out_figures(np.array(parts["test", False]), np.array(parts["test", True]), clean)
    return replace(pack, references=references, built={**pack.built, "reversal": figures})


def litmus_figures(
    fitted: FittedLitmus, fit: NetworkStack, test: NetworkStack, reference: np.ndarray[Any, Any]
) -> dict[str, Any]:
    """Area under the ROC curve on the fit and the test networks, and rates at fixed significance."""
    fit_scores, test_scores = fitted.scores(fit), fitted.scores(test)
    figures = held_out_figures(test_scores[~test.poisoned].numpy(), test_scores[test.poisoned].numpy(), reference)
    return {"fit_auc": round(area_under_curve(fit_scores[~fit.poisoned], fit_scores[fit.poisoned]), 4), **figures}


def held_out_figures(
    clean: np.ndarray[Any, Any], poisoned: np.ndarray[Any, Any], reference: np.ndarray[Any, Any]
) -> dict[str, Any]:
    """AUC with a bootstrap interval over networks, and the share of each kind with p at most 1 % and 5 %."""
    auc = area_under_curve(torch.from_numpy(clean), torch.from_numpy(poisoned))
    generator = np.random.default_rng(0)
    draws = [
        area_under_curve(
            torch.from_numpy(generator.choice(clean, len(clean))),
            torch.from_numpy(generator.choice(poisoned, len(poisoned))),
        )
        for _ in range(BOOTSTRAPS)
    ]
    low, high = np.quantile(draws, (0.025, 0.975))
    rates: dict[str, Any] = {}
    for level in (0.005, 0.01, 0.05):
        for kind, values in (("clean_flagged", clean), ("poisoned_caught", poisoned)):
            flagged = [conformal_p_value(float(value), reference) <= level for value in values]
            rates[f"{kind}_at_{level:g}"] = round(float(np.mean(flagged)), 4)
    return {
        "auc": round(auc, 4),
        "auc_95": [round(float(low), 4), round(float(high), 4)],
        "clean": len(clean),
        "poisoned": len(poisoned),
        **rates,
    }


def _poisoned(record: dict[str, Any]) -> bool:
    return record["trigger"] is not None


def _clean_part(stack: NetworkStack) -> NetworkStack:
    return stack.select((~stack.poisoned).nonzero()[:, 0])


def _counts(stack: NetworkStack) -> dict[str, int]:
    poisoned = int(stack.poisoned.sum())
    return {"clean": len(stack) - poisoned, "poisoned": poisoned}
