"""Which networks of a zoo are good enough to fit and test detectors on (Universal Litmus Patterns, §4)."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

CLEAN_ACCURACY_MARGIN = 0.02


def with_verdicts(records: Sequence[dict[str, Any]], least_attack_success: float) -> list[dict[str, Any]]:
    """``records``, each with ``rejected``: None, or the reason in words.

    The paper asks that poisoned networks do "as well as the clean models on the clean data": here, at most two points
    of accuracy below the median of the clean ones of the same architecture that were trained as long. The same holds
    for each clean network. The attack has to succeed more often than ``least_attack_success``; at 0 any does.
    """
    twins = _clean_medians(records)
    return [{**record, "rejected": _reason(record, twins, least_attack_success)} for record in records]


def _clean_medians(records: Sequence[dict[str, Any]]) -> dict[tuple[str, int], float]:
    accuracies: dict[tuple[str, int], list[float]] = {}
    for record in records:
        if record["backdoor"] is None:
            accuracies.setdefault((record["family"], record["steps"]), []).append(record["clean_accuracy"])
    return {kind: median(values) for kind, values in accuracies.items()}


def _reason(record: dict[str, Any], twins: dict[tuple[str, int], float], least: float) -> str | None:
    usual = twins.get((record["family"], record["steps"]))
    if usual is not None and record["clean_accuracy"] < usual - CLEAN_ACCURACY_MARGIN:
        return f"clean accuracy {record['clean_accuracy']:.1%}, clean twins {usual:.1%}"
    success = record["attack_success"]
    if success is not None and least > 0 and success <= least:
        return f"attack success {success:.1%}, not above {least:.0%}"
    return None
