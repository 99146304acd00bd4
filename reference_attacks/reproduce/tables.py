"""Cells and tables of a Markdown report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

Result = dict[str, Any]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of ``head`` and ``rows``."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def auc(figures: Result | None) -> str:
    """An area under the ROC curve with its interval and numbers of networks."""
    if figures is None:
        return "–"
    low, high = figures["auc_95"]
    return f"{figures['auc']:.3f} ({low:.3f} to {high:.3f}), n = {figures['clean']} + {figures['poisoned']}"


def detector(row: Result) -> str:
    """Which detector a row is about: the paper's where it does not say."""
    name: str = row.get("detector", "patterns, M = 10")
    return name


def percent(value: float | None) -> str:
    """A share in per cent."""
    return "–" if value is None else f"{value:.1%}"
