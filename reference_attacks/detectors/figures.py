"""What a detector's scores are worth: area under the ROC curve, its interval, and rates at fixed p-values."""

from __future__ import annotations

from typing import Any

import numpy as np

from pytest_backdoor.calibration import conformal_p_value

Scores = np.ndarray[Any, Any]
BOOTSTRAPS = 2000
LEVELS = (0.005, 0.01, 0.05)


def area_under_curve(clean: Scores, poisoned: Scores) -> float:
    """The share of (clean, poisoned) pairs in which the poisoned score is higher; ties count half."""
    higher = (poisoned[:, None] > clean[None]) + 0.5 * (poisoned[:, None] == clean[None])
    return float(higher.mean())


def auc_interval(clean: Scores, poisoned: Scores) -> tuple[float, float]:
    """The 95 % bootstrap interval of the AUC over networks of either kind."""
    generator = np.random.default_rng(0)
    wins = (poisoned[:, None] > clean[None]) + 0.5 * (poisoned[:, None] == clean[None])
    draws = [
        wins[
            np.ix_(
                generator.integers(len(poisoned), size=len(poisoned)), generator.integers(len(clean), size=len(clean))
            )
        ].mean()
        for _ in range(BOOTSTRAPS)
    ]
    low, high = np.quantile(draws, (0.025, 0.975))
    return float(low), float(high)


def held_out_figures(clean: Scores, poisoned: Scores, reference: Scores | None = None) -> dict[str, Any]:
    """AUC with its interval and, given reference scores, the share of each kind at p ≤ 0.5, 1 and 5 %."""
    figures: dict[str, Any] = {
        "auc": round(area_under_curve(clean, poisoned), 4),
        "auc_95": [round(bound, 4) for bound in auc_interval(clean, poisoned)],
        "clean": len(clean),
        "poisoned": len(poisoned),
    }
    if reference is None:
        return figures
    judged = {"clean_flagged": p_values(clean, reference), "poisoned_caught": p_values(poisoned, reference)}
    for level in LEVELS:
        for kind, values in judged.items():
            figures[f"{kind}_at_{level:g}"] = round(float((values <= level).mean()), 4)
    return figures


def p_values(scores: Scores, reference: Scores) -> Scores:
    """Float ``(N,)``: the conformal p-value of each score."""
    return np.array([conformal_p_value(float(score), reference) for score in scores])


def false_positive_interval(flagged: int, count: int) -> tuple[float, float]:
    """The 95 % Clopper-Pearson interval of a rate of ``flagged`` in ``count``."""
    from scipy.stats import binomtest

    interval = binomtest(flagged, count).proportion_ci(0.95, method="exact")
    return float(interval.low), float(interval.high)
