"""Figures 4 and 5 of Universal Litmus Patterns, as PNG."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..pictures import new_figure, png
from .scales import TASK_NAMES

CURVES = {
    "noise, M = 10": ("Noise, M = 10", "#999999", ":"),
    "trigger reversal": ("Trigger reversal", "#cc7000", "--"),
    "patterns, M = 1": ("Patterns, M = 1", "#9ecae1", "-"),
    "patterns, M = 5": ("Patterns, M = 5", "#4292c6", "-"),
    "patterns, M = 10": ("Patterns, M = 10", "#08306b", "-"),
    "patterns, M = 10, symmetric-sum": ("symmetric-sum, M = 10", "#74c476", "-"),
    "patterns, M = 10, symmetric-max": ("symmetric-max, M = 10", "#006d2c", "-"),
}


def roc_points(clean: list[float], poisoned: list[float]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """False and true positive rates at every threshold, from (0, 0) to (1, 1)."""
    thresholds = np.concatenate([[np.inf], np.unique([*clean, *poisoned])[::-1]])
    false, true = ((np.asarray(scores)[None] >= thresholds[:, None]).mean(1) for scores in (clean, poisoned))
    return false, true


def draw_roc(results: dict[str, Any]) -> bytes:
    """Figure 5: one panel for each task."""
    figure, panels = _panels(len(results))
    for panel, (task, result) in zip(panels, results.items(), strict=True):
        for method, (label, colour, style) in CURVES.items():
            figures = result["methods"].get(method)
            if figures is None:
                continue
            false, true = roc_points(**figures["scores"])
            panel.plot(false, true, style, color=colour, label=f"{label}: {figures['auc']:.3f}")
        panel.plot([0, 1], [0, 1], color="#dddddd", linewidth=0.8, zorder=0)
        panel.set(title=TASK_NAMES[task], xlabel="false positive rate", ylabel="true positive rate", aspect="equal")
        panel.legend(title="area under the curve", fontsize=8, title_fontsize=8, loc="lower right")
    return png(figure)


def draw_ratios(results: dict[str, Any]) -> bytes:
    """Figure 4: attack success and AUC against the poisoning ratio, with intervals over networks."""
    chosen = {task: result for task, result in results.items() if len(result["ratios"]) > 1}
    figure, panels = _panels(len(chosen))
    for panel, (task, result) in zip(panels, chosen.items(), strict=True):
        rows = result["ratios"]
        places = np.arange(len(rows))
        panel.plot(places, [row["attack_success"] for row in rows], "-o", color="#2b6cb0", label="attack success")
        for method, colour, shift in (("noise", "#999999", -0.06), ("patterns", "#08306b", 0.06)):
            values = np.array([row[method]["auc"] for row in rows])
            low, high = np.array([row[method]["auc_95"] for row in rows]).T
            errors = np.maximum(0, [values - low, high - values])
            panel.errorbar(
                places + shift, values, errors, fmt="-s", capsize=3, color=colour, label=f"AUC, {method}, M = 5"
            )
        panel.set(title=TASK_NAMES[task], xlabel="poisoned among images of the source class", ylim=(0, 1.03))
        panel.set_xticks(places, [f"{row['ratio']:.0%}" for row in rows])
        panel.legend(fontsize=8, loc="lower left")
    return png(figure)


def _panels(count: int) -> tuple[Any, list[Any]]:
    figure = new_figure(4.6 * count, 4.4)
    axes = figure.subplots(1, count, squeeze=False)
    return figure, list(axes[0])
