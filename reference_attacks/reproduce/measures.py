"""What the experiments share: numbers of a zoo, figures with their scores, parts of a stack."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch

from pytest_backdoor.files import write_atomically

from ..detectors.figures import held_out_figures
from ..detectors.splits import poisoned
from ..zoo.store import NetworkStack, Zoo, load_stack

Result = dict[str, Any]


class KeptResults:
    """Finished parts of a task's results in one file, each of use as long as its ``state`` is the same."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.parts: dict[str, Result] = json.loads(path.read_text()) if path.exists() else {}

    def result(self, name: str, state: str, measure: Callable[[], Any]) -> Any:
        """A part's result, measured if none is kept for that state."""
        if self.parts.get(name, {}).get("state") != state:
            self.parts[name] = {"state": state, "result": measure()}
            write_atomically(self.path, json.dumps(self.parts).encode())
        return self.parts[name]["result"]


def summary(zoo: Zoo) -> Result:
    """Numbers of a zoo for a table."""
    rows = {}
    for kind, is_poisoned in (("clean", False), ("poisoned", True)):
        kept = [record for record in zoo.records if poisoned(record) == is_poisoned]
        rejected = sum(poisoned(record) == is_poisoned for record in zoo.rejected)
        rows[kind] = {
            "kept": len(kept),
            "rejected": rejected,
            "clean_accuracy": round(fmean(r["clean_accuracy"] for r in kept), 4) if kept else None,
            "attack_success": round(fmean(r["attack_success"] for r in kept), 4) if kept and is_poisoned else None,
        }
    families = sorted({record["family"] for record in zoo.records})
    return {**rows, "families": families, "steps": list(zoo.plan["steps"]), "precision": zoo.plan["precision"]}


def with_scores(
    clean: np.ndarray[Any, Any], backdoored: np.ndarray[Any, Any], reference: np.ndarray[Any, Any] | None
) -> Result:
    """Figures and, for ROC curves, the scores behind them."""
    scores = {"clean": [round(float(s), 5) for s in clean], "poisoned": [round(float(s), 5) for s in backdoored]}
    return {**held_out_figures(clean, backdoored, reference), "scores": scores}


def part_of(stack: NetworkStack, share: float) -> NetworkStack:
    """The first ``share`` of the clean and of the poisoned networks."""
    chosen = [
        indices[: max(2, round(len(indices) * share))]
        for indices in ((~stack.poisoned).nonzero()[:, 0], stack.poisoned.nonzero()[:, 0])
    ]
    return stack.select(torch.cat(chosen))


def stack_of(zoo: Zoo, records: Sequence[Result]) -> NetworkStack:
    """The networks of ``records``, entries of the zoo's manifest."""
    names = {record["name"] for record in records}
    return load_stack([replace(zoo, records=[r for r in zoo.records if r["name"] in names])], lambda _: True)
