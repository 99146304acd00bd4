"""Reference scores of clean networks for every behavioural check, and what they say about the other networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pytest_backdoor.calibration import DetectorPack, ReferenceScores, judge_jointly
from pytest_backdoor.checks.litmus import pack_score
from pytest_backdoor.checks.reversal import component, family_score, fit_statistics, held_out_scores

from ..zoo.store import NetworkStack, Zoo, load_stack
from .reversal import KINDS, reversal_margins
from .splits import for_calibration, poisoned

LITMUS = "litmus"
REVERSAL = "reversal"
SIGNIFICANCE = 0.01


@dataclass(frozen=True, kw_only=True)
class Work:
    """How the networks are measured: ``families`` of triggers, ``kinds`` of images, processes and seed."""

    families: tuple[str, ...]
    kinds: tuple[str, ...] = KINDS
    workers: int = 1
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What the checks say about one network that is no reference.

    ``votes``: the p-value by the name of what votes: one check, or all of them with samples or without. ``scores``:
    the score that was compared, by the same names. ``target``: the class that reversal names with each kind of images,
    -1 for none in particular. ``seconds``: of the reversal with each kind of images.
    """

    record: Mapping[str, Any]
    zoo: str
    votes: Mapping[str, float]
    scores: Mapping[str, float]
    target: Mapping[str, int]
    seconds: Mapping[str, float]


def calibrate(pack: DetectorPack, zoos: Sequence[Zoo], work: Work) -> DetectorPack:
    """``pack`` with reference scores and class statistics of the clean calibration networks of ``zoos``.

    All of the same networks in the same order, so that they can be judged jointly.
    """
    stack = load_stack(zoos, for_calibration)
    count = len(stack.records)
    references = {
        LITMUS: ReferenceScores(
            scores=litmus_scores(pack, stack),
            description=f"{count} clean networks that the patterns were not fitted on",
        )
    }
    statistics = {}
    for kind in work.kinds:
        margins = _margins(pack, zoos, stack.records, kind, work)
        for family in work.families:
            name = component(REVERSAL, kind, family)
            statistics[name] = fit_statistics(margins[family])
            references[name] = ReferenceScores(
                scores=held_out_scores(margins[family]),
                description=f"{count} clean networks, triggers sought on {kind}",
            )
    return replace(pack, references=references, statistics=statistics)


def litmus_scores(pack: DetectorPack, stack: NetworkStack) -> np.ndarray[Any, Any]:
    """Float64 ``(N,)``: the score of the litmus check for each network."""
    import torch

    logits = stack.logits(torch.from_numpy(np.array(pack.patterns)))
    centred = (logits - logits.mean(-1, keepdim=True)).numpy().astype(np.float32)
    return np.array([pack_score(pack, own) for own in centred])


def judge_others(pack: DetectorPack, zoos: Sequence[Zoo], work: Work) -> list[Judged]:
    """What ``pack`` says about every network of ``zoos`` that is no calibration network.

    Nothing is fitted in reversal, so networks that patterns were fitted on test it as well as others do; litmus has no
    vote on those.
    """
    return [judged for zoo in zoos for judged in _judge_zoo(pack, zoo, work)]


def _judge_zoo(pack: DetectorPack, zoo: Zoo, work: Work) -> list[Judged]:
    stack = load_stack([zoo], lambda record: not for_calibration(record))
    litmus = litmus_scores(pack, stack)
    margins = {kind: _margins(pack, [zoo], stack.records, kind, work) for kind in work.kinds}
    return [
        _judge(pack, zoo, record, float(litmus[row]), {kind: _row(part, row) for kind, part in margins.items()})
        for row, record in enumerate(stack.records)
    ]


def _row(margins: Mapping[str, np.ndarray[Any, Any]], row: int) -> dict[str, np.ndarray[Any, Any]]:
    return {name: values[row] for name, values in margins.items()}


def _judge(
    pack: DetectorPack,
    zoo: Zoo,
    record: Mapping[str, Any],
    litmus: float,
    margins: Mapping[str, Mapping[str, np.ndarray[Any, Any]]],
) -> Judged:
    votes, scores, target = {}, {}, {}
    fitted = record["split"] == "fit"
    if not fitted:
        votes[LITMUS], scores[LITMUS] = _vote(pack, {LITMUS: litmus})
    for kind, own in margins.items():
        found = {
            component(REVERSAL, kind, family): family_score(values, pack.statistics[component(REVERSAL, kind, family)])
            for family, values in own.items()
            if component(REVERSAL, kind, family) in pack.references
        }
        values = {name: score.value for name, score in found.items()}
        for name, value in values.items():
            votes[name], scores[name] = _vote(pack, {name: value})
        votes[f"{REVERSAL} on {kind}"], scores[f"{REVERSAL} on {kind}"] = _vote(pack, values)
        if not fitted:
            votes[f"all checks, {kind}"], scores[f"all checks, {kind}"] = _vote(pack, {LITMUS: litmus, **values})
        worst = max(values, key=lambda name: pack.standardised(name, values[name]))
        target[kind] = found[worst].arm if found[worst].arm < pack.classes else -1
    seconds = {kind: float(own["seconds"]) for kind, own in margins.items()}
    return Judged(record=record, zoo=zoo.folder.name, votes=votes, scores=scores, target=target, seconds=seconds)


def _vote(pack: DetectorPack, components: Mapping[str, float]) -> tuple[float, float]:
    judgement = judge_jointly(components, pack.references, SIGNIFICANCE)
    assert judgement.p_value is not None
    assert judgement.score is not None
    return judgement.p_value, judgement.score


def _margins(
    pack: DetectorPack, zoos: Sequence[Zoo], records: Sequence[dict[str, Any]], kind: str, work: Work
) -> dict[str, np.ndarray[Any, Any]]:
    """The margins of ``records``, in that order, which may be of several zoos."""
    folders = {str(zoo.folder): zoo for zoo in zoos}
    parts = []
    for folder, zoo in folders.items():
        own = [record for record in records if str(record["folder"]) == folder]
        if own:
            measured = reversal_margins(
                zoo,
                own,
                kind=kind,
                workers=work.workers,
                seed=work.seed,
                families=work.families,
                prototypes=np.array(pack.prototypes),
            )
            parts.append(({record["name"]: row for row, record in enumerate(own)}, folder, measured))
    places = [
        (number, rows[record["name"]])
        for record in records
        for number, (rows, folder, _) in enumerate(parts)
        if folder == str(record["folder"])
    ]
    return {name: np.stack([parts[number][2][name][row] for number, row in places]) for name in parts[0][2]}


def is_poisoned(judged: Judged) -> bool:
    """Whether the network has a backdoor."""
    return poisoned(dict(judged.record))
