"""From what was measured on the models to how many of each row every column catches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_backdoor.calibration import ReferenceScores, find_packs, judge_jointly, load_object_pack
from pytest_backdoor.errors import NotAssessableError

from .groups import Group, MatrixModel
from .rows import CLEAN, Row

SIGNIFICANCE = 0.01
# Each column by the beginnings of the names of the scores that it judges by.
COLUMNS: dict[str, tuple[str, ...]] = {
    "litmus": ("litmus",),
    "margin": ("margin",),
    "reversal, no samples": ("reversal-prototypes/",),
    "reversal, samples": ("reversal-samples/",),
    "whole detector": ("reversal-photographs/",),
    "all, no samples": ("litmus", "margin", "reversal-prototypes/"),
    "all": ("litmus", "margin", "reversal-samples/", "reversal-photographs/"),
}
References = Mapping[str, ReferenceScores]


@dataclass(frozen=True, kw_only=True)
class Vote:
    """What one column says of one model: its p-value, None where it could not measure or judge anything.

    ``references``: how many clean models it is judged by.
    """

    p_value: float | None
    references: int

    @property
    def judged(self) -> bool:
        """Whether there is a p-value that may be as small as the significance."""
        return self.p_value is not None and 1 / (1 + self.references) <= SIGNIFICANCE

    @property
    def caught(self) -> bool:
        """Whether the model fails."""
        return self.judged and self.p_value is not None and self.p_value <= SIGNIFICANCE


def votes(record: Mapping[str, Any], references: References) -> dict[str, Vote]:
    """What each column says of the model of which ``record`` holds the findings."""
    findings = [finding for way in record["ways"].values() for finding in way["findings"].values()]
    components = {name: score for finding in findings for name, score in finding["components"].items()}
    return {column: _vote(components, references, beginnings) for column, beginnings in COLUMNS.items()}


def _vote(components: Mapping[str, float], references: References, beginnings: tuple[str, ...]) -> Vote:
    planned = [name for name in references if name.startswith(beginnings)]
    measured = {name: components[name] for name in planned if name in components}
    count = len(references[planned[0]].scores) if planned else 0
    if not measured:
        return Vote(p_value=None, references=count)
    judgement = judge_jointly(measured, references, SIGNIFICANCE, planned=planned)
    return Vote(p_value=judgement.p_value, references=count)


def references_of(group: Group, root: Path, record: Mapping[str, Any]) -> References:
    """The reference scores that a scan of the model would be judged by; none where no pack fits."""
    given = None if group.pack is None else root / group.pack
    if group.kind == "detector":
        pack = None if given is None else load_object_pack(given)
        return {} if pack is None else pack.references
    tasks = [way["task"] for way in record["ways"].values() if way["task"] is not None]
    if not tasks:
        return {}
    channels, height, width = tasks[0]["input_shape"]
    try:
        packs = find_packs((channels, height, width), tasks[0]["classes"], given=given)
    except NotAssessableError:
        return {}
    used = {finding.get("pack") for way in record["ways"].values() for finding in way["findings"].values()}
    return next((pack.references for pack in packs if pack.name in used), {})


def count_rows(
    models: Sequence[MatrixModel], found: Sequence[Mapping[str, Any]], references: Iterable[References]
) -> list[dict[str, Any]]:
    """The rows of one group as JSON values, the clean models last.

    Backdoors that do not work are counted by themselves and not among those to be caught.
    """
    by_attack: dict[str, list[tuple[Row, dict[str, Vote]]]] = {}
    for model, record, own in zip(models, found, references, strict=True):
        by_attack.setdefault(model.row.attack, []).append((model.row, votes(record, own)))
    order = sorted(by_attack, key=lambda attack: (attack == CLEAN, attack))
    return [_row(attack, by_attack[attack]) for attack in order]


def _row(attack: str, entries: Sequence[tuple[Row, dict[str, Vote]]]) -> dict[str, Any]:
    working = [found for row, found in entries if row.works]
    return {
        "attack": attack,
        "poisoned": attack != CLEAN,
        "models": len(working),
        "left_out": len(entries) - len(working),
        "columns": {column: _cell([found[column] for found in working]) for column in COLUMNS},
    }


def _cell(own: Sequence[Vote]) -> dict[str, Any]:
    return {
        "caught": sum(vote.caught for vote in own),
        "judged": sum(vote.judged for vote in own),
        "measured": sum(vote.p_value is not None for vote in own),
        "smallest_p": min((vote.p_value for vote in own if vote.p_value is not None), default=None),
        "references": max((vote.references for vote in own), default=0),
    }
