"""What is measured of the detectors of one task; every result is JSON values, scores included."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from pytest_backdoor.checks.reversal import family_score

from ..detectors.classifiers import SYMMETRIC, Pooling
from ..detectors.figures import false_positive_interval, held_out_figures, p_values
from ..detectors.litmus import FittedLitmus, LitmusPlan, fit_litmus
from ..detectors.packing import recognised, scores_by_kind
from ..detectors.prototypes import TaskTemplates, make_templates
from ..detectors.reversal import reversal_margins
from ..detectors.splits import for_calibration, for_optimisation, for_validation, poisoned, unseen_test
from ..zoo.store import NetworkStack, Zoo, load_stack, load_zoo
from .measures import KeptResults, Result, part_of, stack_of, summary, with_scores
from .scales import BEST_POOLINGS

NUMBERS = (1, 5, 10)
PLAIN = "patterns, M = 10"
OTHER_POOLINGS: tuple[Pooling, ...] = ("mean", "max", *SYMMETRIC)
FURTHER_ZOOS = ("families", "ratios", "variants")
FIT_SHARES = (0.25, 0.5)
FEWEST_OTHERS = 20


class TaskExperiments:
    """All experiments on one task's zoos; detectors are fitted once and used by several of them.

    ``reversed_networks``: how many clean and how many poisoned networks triggers are reversed for; None for all.
    """

    def __init__(
        self, task: str, folder: Path, *, seed: int, workers: int, reversed_networks: int | None = None
    ) -> None:
        self.task, self.seed, self.workers = task, seed, workers
        self.reversed_networks = reversed_networks
        self.folder = folder
        self.main = load_zoo(folder / task)
        self.fit = load_stack([self.main], for_optimisation)
        self.validation = load_stack([self.main], for_validation)
        self.test = load_stack([self.main], unseen_test([self.main]))
        self._fitted: dict[LitmusPlan, FittedLitmus] = {}
        self._references: dict[LitmusPlan, np.ndarray[Any, Any]] = {}

    def run(self, on_part: Callable[[str], None]) -> Result:
        """Every part, in order; ``on_part`` is told the name of each.

        Parts that are finished are kept beside the zoos, so that a run that was killed goes on with the next.
        """
        parts: dict[str, Callable[[], Any]] = {
            "networks": self.networks,
            "methods": self.methods,
            "false_positives": self.false_positives,
            "zoo_sizes": self.zoo_sizes,
            "ratios": self.ratios,
            "families": self.families,
            "variants": self.variants,
            "changes": self.changes,
        }
        kept = KeptResults(self.folder / f"{self.task}-results.json")
        results: Result = {"task": self.task, "seed": self.seed, "classes": self.main.classes}
        for name, part in parts.items():
            on_part(name)
            results[name] = kept.result(name, self._state(name), part)
        return results

    def _state(self, part: str) -> str:
        """What a part's results depend on: the manifests of the zoos that it looks at, and how it is measured."""
        further = FURTHER_ZOOS if part == "networks" else [part] if part in FURTHER_ZOOS else []
        paths = [self.folder / name / "manifest.json" for name in (self.task, *(f"{self.task}-{n}" for n in further))]
        told = [str(self.seed), str(self.reversed_networks), *(p.read_text() if p.exists() else "" for p in paths)]
        return hashlib.sha256("".join(told).encode()).hexdigest()

    def networks(self) -> Result:
        """Numbers, accuracy and attack success of each zoo's networks, rejected ones counted."""
        names = (self.task, *(f"{self.task}-{kind}" for kind in FURTHER_ZOOS))
        return {name: summary(zoo) for name in names if (zoo := self._zoo(name)) is not None}

    def methods(self) -> Result:
        """Table 1 and Figure 5: noise, trigger reversal and patterns on the test networks."""
        results = {}
        for number in NUMBERS:
            results[f"noise, M = {number}"] = self._litmus_result(self.plan(patterns=number, noise=True))
            results[f"patterns, M = {number}"] = self._litmus_result(self.plan(patterns=number))
        for pooling in OTHER_POOLINGS:
            results[detector_name(pooling)] = self._litmus_result(self.plan(patterns=10, pooling=pooling))
        results["trigger reversal"] = self.reversal()
        return results

    def reversal(self) -> Result:
        """The place of the baseline of §3.4.2: how far the best patch of any class stands out, sought on clean images.

        On the test networks, or as many of either kind as the scale allows, since it takes a minute for a network with
        many classes.
        """
        tested = unseen_test([self.main])
        records = [record for record in self.main.records if tested(record)]
        records = [
            record
            for wanted in (False, True)
            for record in [r for r in records if poisoned(r) == wanted][: self.reversed_networks]
        ]
        margins = reversal_margins(
            self.main, records, kind="samples", workers=self.workers, seed=self.seed, families=("patch",)
        )
        scores = np.array([family_score(own, None).value for own in margins["patch"]])
        is_poisoned = np.array([poisoned(record) for record in records])
        return with_scores(scores[~is_poisoned], scores[is_poisoned], None)

    def false_positives(self) -> Result | None:
        """Clean networks that are in no part of the fit, judged against the calibration networks at p ≤ 1 %."""
        reference = self.reference(self.best)
        if reference is None:
            return None
        clean = self.scores(self.best, self.test)[0]
        significant = int((p_values(clean, reference) <= 0.01).sum())
        low, high = false_positive_interval(significant, len(clean))
        return {
            "detector": self.best_name,
            "clean": len(clean),
            "flagged": significant,
            "interval_95": [low, high],
            "reference": len(reference),
        }

    def zoo_sizes(self) -> list[Result]:
        """AUC of ten patterns fitted on a part of the networks, with the paper's classifier and with the best."""
        return [
            self._size_row(name, plan, share)
            for name, plan in ((PLAIN, self.plan(patterns=10)), (self.best_name, self.best))
            for share in (*FIT_SHARES, 1.0)
        ]

    def _size_row(self, detector: str, plan: LitmusPlan, share: float) -> Result:
        fit, validation = (part_of(stack, share) for stack in (self.fit, self.validation))
        fitted = fit_litmus(fit, validation, plan) if share < 1 else self.fitted(plan)
        figures = held_out_figures(*scores_by_kind(fitted, self.test))
        return {"detector": detector, "networks": len(fit) + len(validation), **figures}

    def ratios(self) -> list[Result]:
        """Figure 4: detectors fitted at a ratio of 50 %, networks poisoned at smaller ones."""
        rows = [self._ratio_row(0.5, self.test)]
        zoo = self._zoo(f"{self.task}-ratios")
        if zoo is None:
            return rows
        tested = unseen_test([self.main, zoo])
        for ratio in sorted({record["backdoor"]["ratio"] for record in zoo.records}, reverse=True):
            chosen = [r for r in zoo.records if tested(r) and r["backdoor"]["ratio"] == ratio]
            rows.append(self._ratio_row(ratio, stack_of(zoo, chosen)))
        return rows

    def families(self) -> list[Result]:
        """Architectures: ten patterns fitted on the main one alone, and on all but the one that is tested."""
        zoo = self._zoo(f"{self.task}-families")
        if zoo is None:
            return []
        tested = unseen_test([self.main, zoo])
        records = [record for record in zoo.records if tested(record)]
        return [
            self._family_row(zoo, family, stack_of(zoo, [record for record in records if record["family"] == family]))
            for family in sorted({record["family"] for record in records})
        ]

    def variants(self) -> list[Result]:
        """Goals and triggers that no detector was fitted on, against the clean test networks."""
        zoo = self._zoo(f"{self.task}-variants")
        if zoo is None:
            return []
        tested = unseen_test([self.main, zoo])
        kinds = sorted({(r["backdoor"]["goal"], r["backdoor"]["kind"]) for r in zoo.records})
        rows = []
        for goal, kind in kinds:
            chosen = [
                r for r in zoo.records if tested(r) and (r["backdoor"]["goal"], r["backdoor"]["kind"]) == (goal, kind)
            ]
            if chosen:
                figures = self._against_clean(self.best, stack_of(zoo, chosen))
                rows.append({"detector": self.best_name, "goal": goal, "trigger": kind, **figures})
        return rows

    def changes(self) -> list[Result]:
        """Test networks after pruning, 8-bit quantisation and fine-tuning; the detector is not fitted again."""
        from .changes import CHANGES

        rows = []
        for name, change in CHANGES.items():
            clean, backdoored = self.scores(self.best, change(self.test, self.main))
            figures = held_out_figures(clean, backdoored, self.reference(self.best))
            rows.append({"detector": self.best_name, "change": name, **figures})
        return rows

    def plan(self, **chosen: Any) -> LitmusPlan:
        """A fit with this run's seed."""
        return LitmusPlan(seed=self.seed, **chosen)

    @property
    def best(self) -> LitmusPlan:
        """The plan of the detector that beyond the paper's table everything is measured with."""
        return self.plan(patterns=10, pooling=BEST_POOLINGS[self.task])

    @property
    def best_name(self) -> str:
        """How tables call it."""
        return detector_name(BEST_POOLINGS[self.task])

    @cached_property
    def templates(self) -> TaskTemplates:
        """How a pack of the best detector would know networks that it can judge."""
        patterns = self.fitted(self.best).patterns
        calibration = [record for record in self.main.records if for_calibration(record)]
        clean = stack_of(self.main, calibration) if len(calibration) > 1 else self.fit.clean
        return make_templates(patterns, self.fit.clean, clean, self.seed)

    def fitted(self, plan: LitmusPlan) -> FittedLitmus:
        """The detector of that plan on the main zoo, fitted on first use."""
        if plan not in self._fitted:
            self._fitted[plan] = fit_litmus(self.fit, self.validation, plan)
        return self._fitted[plan]

    def scores(self, plan: LitmusPlan, stack: NetworkStack) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Scores of the clean and of the poisoned networks of ``stack``."""
        return scores_by_kind(self.fitted(plan), stack)

    def reference(self, plan: LitmusPlan) -> np.ndarray[Any, Any] | None:
        """Scores of the calibration networks, None if there are too few for p of 1 %."""
        records = [record for record in self.main.records if for_calibration(record)]
        if len(records) < 99:
            return None
        if plan not in self._references:
            self._references[plan] = self.scores(plan, stack_of(self.main, records))[0]
        return self._references[plan]

    def _litmus_result(self, plan: LitmusPlan) -> Result:
        return with_scores(*self.scores(plan, self.test), self.reference(plan))

    def _against_clean(self, plan: LitmusPlan, backdoored: NetworkStack) -> Result:
        clean = self.scores(plan, self.test)[0]
        return held_out_figures(clean, self.scores(plan, backdoored)[1], self.reference(plan))

    def _ratio_row(self, ratio: float, stack: NetworkStack) -> Result:
        success = [record["attack_success"] for record in stack.records if poisoned(record)]
        return {
            "ratio": ratio,
            "attack_success": round(fmean(success), 4),
            "noise": self._against_clean(self.plan(patterns=5, noise=True), stack),
            "patterns": self._against_clean(self.plan(patterns=5), stack),
        }

    def _family_row(self, zoo: Zoo, family: str, stack: NetworkStack) -> Result:
        return {
            "detector": self.best_name,
            "family": family,
            "tested": len(stack),
            "recognised": recognised(self.templates, stack),
            "clean_accuracy": round(fmean(record["clean_accuracy"] for record in stack.records), 4),
            "fitted_on_main": _figures_of_both(*self.scores(self.best, stack)),
            "fitted_on_others": self._fitted_on_others(zoo, family, stack),
        }

    def _fitted_on_others(self, zoo: Zoo, family: str, stack: NetworkStack) -> Result | None:
        """Ten patterns fitted on all architectures but one, tested on ``stack``; None with too little to fit on."""
        others = [r for r in zoo.records if r["split"] == "fit" and r["family"] != family]
        if len(others) < FEWEST_OTHERS:
            return None
        fit, validation = (
            load_stack([self.main, zoo], lambda r, wanted=wanted: wanted(r) and r["family"] != family)
            for wanted in (for_optimisation, for_validation)
        )
        return _figures_of_both(*scores_by_kind(fit_litmus(fit, validation, self.best), stack))

    def _zoo(self, name: str) -> Zoo | None:
        return load_zoo(self.folder / name) if (self.folder / name / "manifest.json").exists() else None


def detector_name(pooling: Pooling) -> str:
    """How tables call ten patterns with a pooling other than the paper's."""
    return f"{PLAIN}, {pooling}" if pooling in SYMMETRIC else f"{PLAIN}, {pooling} pooling"


def _figures_of_both(clean: np.ndarray[Any, Any], backdoored: np.ndarray[Any, Any]) -> Result | None:
    """Figures of a few networks; None if all were rejected of one kind."""
    return held_out_figures(clean, backdoored) if len(clean) and len(backdoored) else None
