"""How a pack does on networks trained by an optimiser that none of its reference networks was trained by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_backdoor.calibration import DetectorPack

from ..zoo.store import Zoo
from .calibrate import LITMUS, SIGNIFICANCE, Judged, Work, calibrate, judge_others
from .splits import Record, for_calibration, for_test, optimizer

LEAST_REFERENCES = 3


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """What the references of all other optimisers say about the networks of one.

    ``level``: the significance, or the smallest p-value that so few ``references`` can give. ``judged``: the networks.
    """

    references: int
    level: float
    judged: list[Judged]


def judge_left_out(pack: DetectorPack, zoos: Sequence[Zoo], tested: Sequence[Zoo], work: Work) -> dict[str, LeftOut]:
    """By the optimiser: what ``pack``, calibrated on the others' networks of ``zoos``, says about all of its networks.

    Those are its test networks in ``tested`` and its calibration networks, which then are references no more. Nothing
    for an optimiser without which too few references are left to score each of them by the others.
    """
    counts = Counter(optimizer(record) for zoo in zoos for record in zoo.records if for_calibration(record))
    left_out = [own for own, count in sorted(counts.items()) if counts.total() - count >= LEAST_REFERENCES]
    return {own: _judge(pack, zoos, tested, work, own) for own in left_out}


def _judge(pack: DetectorPack, zoos: Sequence[Zoo], tested: Sequence[Zoo], work: Work, own: str) -> LeftOut:
    def of_others(record: Record) -> bool:
        return for_calibration(record) and optimizer(record) != own

    def of_its_own(record: Record) -> bool:
        return (for_calibration(record) or for_test(record)) and optimizer(record) == own

    calibrated = calibrate(pack, zoos, work, of_others)
    references = len(calibrated.references[LITMUS].scores)
    judged = judge_others(calibrated, tested, work, of_its_own)
    return LeftOut(references=references, level=max(SIGNIFICANCE, 1 / (1 + references)), judged=judged)
