"""What the victims of several trials come to, as JSON values."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log
from statistics import fmean
from typing import Any

from ..detectors.figures import false_positive_interval
from .folder import MetaPoisonFolder
from .runs import VictimRun
from .trials import Trial

Values = dict[str, Any]
MODES = ("evaluation", "batch")


def records_of(folder: MetaPoisonFolder, runs: Sequence[VictimRun]) -> list[Values]:
    """The records of the victims that are there, in their order."""
    return [record for record in map(folder.record, runs) if record is not None]


def summary(records: Sequence[Values]) -> Values | None:
    """Figures of several victims after their last epoch, None without any.

    An attack is one target of one victim, and has succeeded where the target is taken for the wanted class, no other
    will do. "interval": of the share of successes, 95 %, Clopper-Pearson, as if all attacks were independent, which
    victims of the same poisons are not: therefore "by_pair", the share of each pair. These and "confidence", the mean
    probability of the wanted class, are with batch normalisation in evaluation mode; "batch_success" and
    "batch_confidence" with the statistics of training batches that the targets join, as the paper's code measures.
    "loss": the mean cross-entropy of the wanted class.
    """
    if not records:
        return None
    attacks = sum(len(record["targets"]) for record in records)
    successes = round(sum(len(record["targets"]) * record["evaluation"]["success"][-1] for record in records))
    return {
        "victims": len(records),
        "attacks": attacks,
        "successes": successes,
        "success": successes / attacks,
        "interval": false_positive_interval(successes, attacks),
        "by_pair": _by_pair(records),
        "confidence": fmean(record["evaluation"]["confidence"][-1] for record in records),
        "batch_success": fmean(record["batch"]["success"][-1] for record in records),
        "batch_confidence": fmean(record["batch"]["confidence"][-1] for record in records),
        "loss": fmean(losses(record, "evaluation")[-1] for record in records),
        "validation_accuracy": fmean(record["validation_accuracy"][-1] for record in records),
        "poison_accuracy": fmean(record["poison_accuracy"] for record in records),
    }


def curves(records: Sequence[Values]) -> Values | None:
    """Means over victims after each epoch, None without any.

    "evaluation" and "batch", as in ``summary``: "success" and the "loss" of the wanted class. "validation_accuracy".
    "distances": of features, between the target and groups of training images.
    """
    if not records:
        return None
    distances = records[0]["distances"]
    return {
        "victims": len(records),
        **{
            mode: {
                "success": _means([record[mode]["success"] for record in records]),
                "loss": _means([losses(record, mode) for record in records]),
            }
            for mode in MODES
        },
        "validation_accuracy": _means([record["validation_accuracy"] for record in records]),
        "distances": {name: _means([record["distances"][name] for record in records]) for name in distances},
    }


def losses(record: Values, mode: str) -> list[float]:
    """A victim's cross-entropy of the wanted class after each epoch, the mean over its targets."""
    trial = record["run"]["trial"]
    wanted = trial["poison_class"] if trial["wanted_class"] is None else trial["wanted_class"]
    return [fmean(_cross_entropy(logits, wanted) for logits in epoch) for epoch in record[mode]["logits"]]


def accuracy_change(records: Sequence[Values], baseline: Sequence[Values]) -> float | None:
    """By how much the validation accuracy is higher than the baseline's, in percentage points; None without pairs.

    The mean over victims of ``records`` that have one in ``baseline`` of the same pair and the same number, which
    differs by its training images alone.
    """
    known = {_place(record): record["validation_accuracy"][-1] for record in baseline}
    changes = [
        record["validation_accuracy"][-1] - known[_place(record)] for record in records if _place(record) in known
    ]
    return 100 * fmean(changes) if changes else None


def success_difference(records: Sequence[Values], baseline: Sequence[Values]) -> float | None:
    """By how many percentage points more often attacks succeed than in the baseline; None without either."""
    own, other = summary(records), summary(baseline)
    return None if own is None or other is None else 100 * (own["success"] - other["success"])


def crafting_seconds(folder: MetaPoisonFolder, trials: Sequence[Trial]) -> list[float]:
    """How long the crafting of each trial that is there took."""
    found = [folder.crafting(trial) for trial in dict.fromkeys(trials)]
    return [round(one["seconds"], 1) for one in found if one is not None]


def _by_pair(records: Sequence[Values]) -> list[float]:
    shares: dict[int, list[float]] = {}
    for record in records:
        shares.setdefault(record["run"]["trial"]["number"], []).append(record["evaluation"]["success"][-1])
    return [fmean(one) for one in shares.values()]


def _place(record: Values) -> tuple[int, int]:
    return record["run"]["trial"]["number"], record["run"]["number"]


def _means(rows: Sequence[Sequence[float]]) -> list[float]:
    return [round(fmean(values), 5) for values in zip(*rows, strict=True)]


def _cross_entropy(logits: Sequence[float], wanted: int) -> float:
    highest = max(logits)
    return highest + log(sum(exp(value - highest) for value in logits)) - logits[wanted]
