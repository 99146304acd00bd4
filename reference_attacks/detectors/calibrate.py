"""Reference scores of clean networks for every behavioural check, and what they say about the other networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pytest_backdoor.calibration import (
    ClassStatistics,
    DetectorPack,
    ReferenceScores,
    class_statistics,
    held_out_scores,
    judge_jointly,
)
from pytest_backdoor.checks.litmus import pack_score
from pytest_backdoor.checks.margin import margin_deviations, margin_score
from pytest_backdoor.checks.reversal import MOST_TARGETS, component, family_score, fit_statistics
from pytest_backdoor.checks.reversal import held_out_scores as held_out_reversal

from ..zoo.store import NetworkStack, Zoo, load_stack
from .margin import maximum_margins
from .prototypes import TaskTemplates
from .reversal import reversal_margins
from .splits import Record, for_calibration, for_test, poisoned

LITMUS, MARGIN, REVERSAL = "litmus", "margin", "reversal"
SIGNIFICANCE = 0.01
Table = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True)
class Work:
    """How the networks are measured: ``families`` of triggers for each kind of images, processes and seed."""

    families: Mapping[str, tuple[str, ...]]
    workers: int = 1
    seed: int = 0

    def components(self) -> list[tuple[str, str, str]]:
        """The name of each family's scores, the kind of images and the family."""
        return [
            (component(REVERSAL, kind, family), kind, family)
            for kind, families in self.families.items()
            for family in families
        ]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What the checks say about one network that is no reference.

    ``votes``: the p-value by the name of what votes: one check, or all of them with samples or without. ``scores``:
    the score that was compared, by the same names. ``target``: the class that a check names, -1 for none in particular.
    ``seconds``: of the reversal with each kind of images. ``recognised``: whether the pack takes it for a network of
    its task and would judge it.
    """

    record: Record
    zoo: str
    votes: Mapping[str, float]
    scores: Mapping[str, float]
    target: Mapping[str, int]
    seconds: Mapping[str, float]
    recognised: bool


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was measured on N networks: litmus scores ``(N,)``, margins ``(N, places, K)``, and by the name of each
    reversal score margins ``(N, slots, K + 1)``; seconds ``(N,)`` by kind of images, and what the pack recognises,
    bool ``(N,)``.
    """

    litmus: Table
    margins: Table
    reversal: Mapping[str, Table]
    seconds: Mapping[str, Table]
    recognised: Table


def measure(pack: DetectorPack, zoos: Sequence[Zoo], stack: NetworkStack, work: Work) -> Measured:
    """Everything that ``pack`` judges by, on the networks of ``stack``, which are of ``zoos``."""
    prototypes = np.array(pack.prototypes)
    reversal: dict[str, Table] = {}
    seconds: dict[str, Table] = {}
    for kind, families in work.families.items():

        def search(zoo: Zoo, records: list[dict[str, Any]], kind: str = kind, families: Any = families) -> Any:
            return reversal_margins(
                zoo,
                records,
                kind=kind,
                workers=work.workers,
                seed=work.seed,
                families=families,
                prototypes=prototypes,
            )

        found = _in_order(zoos, stack.records, search)
        seconds[kind] = found.pop("seconds")
        reversal |= {component(REVERSAL, kind, family): table for family, table in found.items()}
    margins = _in_order(
        zoos,
        stack.records,
        lambda zoo, records: {MARGIN: maximum_margins(zoo, records, prototypes, workers=work.workers, seed=work.seed)},
    )
    return Measured(
        litmus=litmus_scores(pack, stack),
        margins=margins[MARGIN],
        reversal=reversal,
        seconds=seconds,
        recognised=templates_of(pack).recognised(stack),
    )


def calibrate(
    pack: DetectorPack, zoos: Sequence[Zoo], work: Work, wanted: Callable[[Record], bool] = for_calibration
) -> DetectorPack:
    """``pack`` with reference scores and class statistics of the ``wanted`` networks of ``zoos``, which are clean.

    All of the same networks in the same order, so that they can be judged jointly.
    """
    stack = load_stack(zoos, wanted)
    found = _assessed(measure(pack, zoos, stack, work))
    clean = f"{len(found.litmus)} clean networks"
    references = {
        LITMUS: ReferenceScores(scores=found.litmus, description=f"{clean} that the patterns were not fitted on"),
        MARGIN: ReferenceScores(
            scores=held_out_scores(found.margins, margin_score), description=f"{clean}, patches on made-up images"
        ),
    }
    statistics: dict[str, ClassStatistics] = {MARGIN: class_statistics(found.margins)}
    for name, kind, _ in work.components():
        table = found.reversal[name]
        if pack.classes <= MOST_TARGETS:
            statistics[name] = fit_statistics(table)
            scores = held_out_reversal(table)
        else:
            scores = np.array([family_score(own, None).value for own in table])
        references[name] = ReferenceScores(scores=scores, description=f"{clean}, triggers sought on {kind}")
    return replace(pack, references=references, statistics=statistics)


def _assessed(found: Measured) -> Measured:
    """What was measured on the networks that every check could assess."""
    tables = [found.margins, *found.reversal.values()]
    kept = np.all([np.isfinite(table).reshape(len(table), -1).all(axis=1) for table in tables], axis=0)
    return Measured(
        litmus=found.litmus[kept],
        margins=found.margins[kept],
        reversal={name: table[kept] for name, table in found.reversal.items()},
        seconds={name: table[kept] for name, table in found.seconds.items()},
        recognised=found.recognised[kept],
    )


def templates_of(pack: DetectorPack) -> TaskTemplates:
    """What a pack knows the networks of its task by."""
    return TaskTemplates(
        patterns=torch_images(pack.patterns),
        pattern_template=pack.pattern_template,
        sure_similarity=pack.sure_similarity,
        prototypes=torch_images(pack.prototypes),
        prototype_template=pack.prototype_template,
        least_similarity=pack.least_similarity,
    )


def torch_images(images: Table) -> Any:
    """A tensor of a pack's images, which are read-only."""
    import torch

    return torch.from_numpy(np.array(images))


def litmus_scores(pack: DetectorPack, stack: NetworkStack) -> Table:
    """Float64 ``(N,)``: the score of the litmus check for each network."""
    logits = stack.logits(torch_images(pack.patterns))
    centred = (logits - logits.mean(-1, keepdim=True)).numpy().astype(np.float32)
    return np.array([pack_score(pack, own) for own in centred])


def judge_others(
    pack: DetectorPack, zoos: Sequence[Zoo], work: Work, wanted: Callable[[Record], bool] = for_test
) -> list[Judged]:
    """What ``pack`` says about every ``wanted`` network of ``zoos``: by default those for no calibration and no fit.

    Nothing is fitted in reversal and margin, but the litmus patterns were fitted on the networks of that split.
    """
    return [judged for zoo in zoos for judged in _judge_zoo(pack, zoo, work, wanted)]


def _judge_zoo(pack: DetectorPack, zoo: Zoo, work: Work, wanted: Callable[[Record], bool]) -> list[Judged]:
    if not any(map(wanted, zoo.records)):
        return []
    stack = load_stack([zoo], wanted)
    found = measure(pack, [zoo], stack, work)
    return [_judge(pack, zoo.folder.name, record, found, row, work) for row, record in enumerate(stack.records)]


def _judge(pack: DetectorPack, zoo: str, record: Record, found: Measured, row: int, work: Work) -> Judged:
    triggers = {
        name: family_score(table[row], pack.statistics.get(name))
        for name, table in found.reversal.items()
        if np.isfinite(table[row]).all()
    }
    values = {LITMUS: float(found.litmus[row]), **{name: score.value for name, score in triggers.items()}}
    target = {}
    if np.isfinite(found.margins[row]).all():
        deviations = margin_deviations(found.margins[row], pack.statistics[MARGIN])
        values[MARGIN], target[MARGIN] = float(deviations.max()), int(deviations.argmax()) % pack.classes
    voters = {name: (name,) for name in values}
    for kind in work.families:
        own = tuple(name for name, its_kind, _ in work.components() if its_kind == kind and name in values)
        voters[f"all checks, {kind}"] = tuple(name for name in (LITMUS, MARGIN) if name in values) + own
        if own:
            voters[f"{REVERSAL} on {kind}"] = own
            best = max(own, key=lambda name: pack.standardised(name, values[name]))
            target[f"{REVERSAL} on {kind}"] = triggers[best].arm if triggers[best].arm < pack.classes else -1
    judged = {
        voter: judge_jointly({name: values[name] for name in names}, pack.references, SIGNIFICANCE)
        for voter, names in voters.items()
    }
    return Judged(
        record=record,
        zoo=zoo,
        votes={voter: float(judgement.p_value or 0.0) for voter, judgement in judged.items()},
        scores={voter: float(judgement.score or 0.0) for voter, judgement in judged.items()},
        target=target,
        seconds={kind: float(table[row]) for kind, table in found.seconds.items()},
        recognised=bool(found.recognised[row]),
    )


def _in_order(zoos: Sequence[Zoo], records: Sequence[dict[str, Any]], search: Any) -> dict[str, Table]:
    """The tables of ``search(zoo, records)``, a row for each of ``records``, which may be of several zoos."""
    rows: dict[tuple[str, str], int] = {}
    tables: dict[str, list[Table]] = {}
    for zoo in zoos:
        own = [record for record in records if record["folder"] == str(zoo.folder)]
        if not own:
            continue
        rows |= {(record["folder"], record["name"]): len(rows) + place for place, record in enumerate(own)}
        for name, table in search(zoo, own).items():
            tables.setdefault(name, []).append(table)
    order = [rows[record["folder"], record["name"]] for record in records]
    return {name: np.concatenate(parts)[order] for name, parts in tables.items()}


def is_poisoned(judged: Judged) -> bool:
    """Whether the network has a backdoor."""
    return poisoned(judged.record)
