"""What the check of the training data shows to people: the most suspicious images, and the comparisons."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ._exchangeability import Comparison, Comparisons
from ._pool import Looked
from ._scores import COMBINED, SINGLE, DataScores

SHOWN = 20
MOST_LISTED = 1000
MOST_LISTED_BY_ONE = 100
MOST_CLASSES = 20
ClassName = Callable[[int], str]


def evidence_of(
    scores: DataScores,
    training: Looked,
    names: Sequence[str],
    comparisons: Comparisons | None,
    class_name: ClassName,
    significance: float,
) -> dict[str, Any]:
    """The report's evidence as JSON values. ``names``: where each training image is. No image is in it.

    ``suspects`` are listed up to 1,000, each single ranking up to 100. ``standing_out``: up to 1,000 images that the
    comparison counts for which the set fails, none if it does not; they are the first of ``most_suspicious``.
    """
    ranking, images = scores.ranking(COMBINED), len(names)
    listed = min(MOST_LISTED, max(1, round(0.05 * images)))
    fails = comparisons is not None and bool(comparisons.made) and comparisons.p_value <= significance
    standing_out = scores.standing_out(comparisons.worst) if comparisons is not None and fails else ranking[:0]
    first = np.concatenate([standing_out, ranking[~np.isin(ranking, standing_out)]])[:SHOWN]
    return {
        "images": images,
        "distinct_images": len(np.unique(scores.pool.images[scores.pool.of_training])),
        "clean_samples": int(scores.pool.clean.sum()),
        "images_that_are_clean_samples": int(scores.pool.clean[scores.pool.of_training].sum()),
        "accuracy": round(training.accuracy, 4),
        "features": training.feature_count,
        "most_suspicious": [_suspect(scores, int(number), names, class_name) for number in first],
        "standing_out": [names[number] for number in standing_out[:MOST_LISTED]],
        "suspects": [names[number] for number in ranking[:listed]],
        "suspects_by_score": {
            name: [names[number] for number in scores.ranking(name)[:MOST_LISTED_BY_ONE]] for name in SINGLE
        },
        "top_1_percent": round(0.01 * images),
        "top_5_percent": round(0.05 * images),
        **_compared(comparisons, class_name, significance),
    }


def _suspect(scores: DataScores, number: int, names: Sequence[str], class_name: ClassName) -> dict[str, Any]:
    member = int(scores.pool.of_training[number])
    return {
        "image": names[number],
        "label": class_name(int(scores.pool.labels[member])),
        "nearest": class_name(int(scores.nearest[member])),
        "scores": {name: float(f"{scores.by_name[name][number]:.4g}") for name in SINGLE},
        "top_share": {name: float(f"{scores.tails[name][number]:.4g}") for name in SINGLE},
    }


def _compared(comparisons: Comparisons | None, class_name: ClassName, significance: float) -> dict[str, Any]:
    if comparisons is None or not comparisons.made:
        return {"comparisons": None}
    labels = comparisons.labels()
    fewest = [comparisons.fewest_to_fail(label, significance) for label in labels]
    return {
        "significance": significance,
        "comparisons": len(comparisons.made),
        "worst": shown(comparisons.worst, class_name),
        "classes": [
            shown(min(comparisons.of_class(label), key=lambda made: made.log_p), class_name) for label in labels
        ][:MOST_CLASSES],
        "classes_without_clean_samples": [class_name(label) for label in comparisons.missing[:MOST_CLASSES]],
        "fewest_to_fail": None if None in fewest else max(number for number in fewest if number is not None),
    }


def shown(comparison: Comparison, class_name: ClassName) -> dict[str, Any]:
    """One comparison as JSON values; ``p_value`` is of this one alone."""
    return {
        "class": class_name(comparison.label),
        "score": comparison.score,
        "above": comparison.above,
        "training_images": comparison.training,
        "clean_sample_number": comparison.depth,
        "clean_samples": comparison.clean,
        "p_value": float(f"{max(1e-300, float(np.exp(comparison.log_p))):.4g}"),
    }
