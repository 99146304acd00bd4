"""What the victims of several trials come to, as JSON values."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, median
from typing import Any

from ..detectors.figures import false_positive_interval
from .end_to_end import EndToEndFolder
from .trials import Trial

Values = dict[str, Any]


def records_of(folder: EndToEndFolder, trials: Sequence[Trial]) -> list[Values]:
    """The records of the trials that are done, in their order."""
    return [record for record in map(folder.record, trials) if record is not None]


def summary(records: Sequence[Values]) -> Values | None:
    """Figures of several victims, None without any.

    "interval": of the share of successes, 95 %, Clopper-Pearson. "kept": of targets that keep their class; the rest is
    taken for a third one. "control_flips": targets that the control, without poisons, takes for the base class.
    "rotation": degrees between the last layer's boundary between the two classes in victim and control. Distances are
    those of features, ‖f(p) − f(t)‖, after and before the optimisation, medians of trials' medians.
    """
    if not records:
        return None
    successes = sum(record["success"] for record in records)
    return {
        "trials": len(records),
        "successes": successes,
        "success": successes / len(records),
        "interval": false_positive_interval(successes, len(records)),
        "kept": sum(record["predicted"] == record["trial"]["target_class"] for record in records),
        "control_flips": sum(_class(record, "control") == record["trial"]["base_class"] for record in records),
        "clean_accuracy": fmean(record["clean_accuracy"] for record in records),
        "poison_accuracy": fmean(record["poison_accuracy"] for record in records),
        "rotation": fmean(record["rotation"]["from_control"][-1] for record in records),
        "distance": median([record["crafting"]["distance"] for record in records]),
        "distance_before": median([record["crafting"]["distance_before"] for record in records]),
        "change_rms_of_255": median([record["crafting"]["change_rms_of_255"] for record in records]),
    }


def rotations(records: Sequence[Values]) -> Values | None:
    """The red part of Figure 2: degrees between the boundaries of victims and controls, None without any victim.

    "angles": of each victim after the last epoch. "mean_angle_by_epoch": the mean after each epoch.
    "angles_from_start": of each victim against the network that it started from.
    """
    if not records:
        return None
    turned = [record["rotation"] for record in records]
    return {
        "angles": [one["from_control"][-1] for one in turned],
        "mean_angle_by_epoch": [fmean(epoch) for epoch in zip(*(one["from_control"] for one in turned), strict=True)],
        "angles_from_start": [one["from_start"][-1] for one in turned],
    }


def _class(record: Values, network: str) -> int:
    logits: list[float] = record["logits"][network]
    return logits.index(max(logits))
