"""Which networks of a zoo detectors are fitted on, which choose the epoch, which calibrate and which test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..zoo.store import Zoo

Record = dict[str, Any]
VALIDATION_TRIGGERS = (8, 9)
VALIDATION_SHARE = 5


def poisoned(record: Record) -> bool:
    """Whether the network has a backdoor."""
    return record["backdoor"] is not None


def for_validation(record: Record) -> bool:
    """Whether a network of the fit split chooses the epoch.

    Those networks have triggers of their own, because the question is how patterns do on triggers that they never saw.
    """
    if record["split"] != "fit":
        return False
    if poisoned(record):
        return record["backdoor"]["number"] in VALIDATION_TRIGGERS
    return int(record["name"].rsplit("-", 1)[1]) % VALIDATION_SHARE == 0


def for_optimisation(record: Record) -> bool:
    """Whether patterns are optimised on a network."""
    return record["split"] == "fit" and not for_validation(record)


def for_calibration(record: Record) -> bool:
    """Whether a network gives reference scores and nothing else."""
    return record["split"] == "calibration"


def for_test(record: Record) -> bool:
    """Whether nothing was fitted on a network and no reference score is of it."""
    return record["split"] == "test"


def optimizer(record: Record) -> str:
    """By what a network was trained: "AdamW", "Muon" or "SGD"; "not recorded" in zoos of before it was drawn."""
    training = record.get("training")
    if training is None:
        return "not recorded"
    if training["kernel_learning_rate"]:
        return "Muon"
    return "SGD" if training["momentum"] else "AdamW"


def unseen_test(zoos: list[Zoo]) -> Callable[[Record], bool]:
    """Whether a network may be tested on: its source-target pair occurs in no network to fit on.

    Within one zoo none does; a zoo of another seed divides the pairs differently.
    """
    seen = {
        _pair(record) for zoo in zoos for record in zoo.records if record["split"] == "fit" and poisoned(record)
    } - {(None, None)}

    def wanted(record: Record) -> bool:
        return for_test(record) and not (poisoned(record) and _pair(record) in seen)

    return wanted


def _pair(record: Record) -> tuple[int | None, int | None]:
    return record["backdoor"]["source"], record["backdoor"]["target"]
