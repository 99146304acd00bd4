"""The figures of a calibrated pack, as JSON values and as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from pytest_backdoor.calibration import DetectorPack

from .calibrate import SIGNIFICANCE, Judged, is_poisoned
from .figures import area_under_curve, auc_interval, false_positive_interval
from .left_out import LeftOut
from .splits import optimizer


def attack_kind(judged: Judged) -> str | None:
    """Such as "patch5, source-target"; None for a clean network."""
    backdoor = judged.record["backdoor"]
    return None if backdoor is None else f"{backdoor['kind']}, {backdoor['goal']}"


def architecture(judged: Judged) -> str:
    """The family of a network's architecture."""
    return str(judged.record["family"])


def trained_by(judged: Judged) -> str:
    """The optimiser."""
    return optimizer(judged.record)


def figures_of(
    pack: DetectorPack, networks: Sequence[Judged], left_out: Mapping[str, LeftOut] | None = None
) -> dict[str, Any]:
    """Every vote's figures on ``networks``: over all, by kind of attack, architecture and optimiser.

    ``left_out``: what references without an optimiser say about its networks.
    """
    names = list(dict.fromkeys(name for judged in networks for name in judged.votes))
    kinds = sorted({kind for judged in networks if (kind := attack_kind(judged))})
    return {
        "pack": pack.name,
        "references": {name: len(scores.scores) for name, scores in pack.references.items()},
        "significance": SIGNIFICANCE,
        "votes": {name: vote_figures(networks, name) for name in names},
        "by attack": {kind: _caught_by(networks, kind, names) for kind in kinds},
        "by architecture": _by(architecture, networks, names),
        "by optimizer": _by(trained_by, networks, names),
        "left out": {own: _left_out_figures(found, names) for own, found in (left_out or {}).items()},
        "target": {
            vote: target_figures(networks, vote) for vote in dict.fromkeys(t for one in networks for t in one.target)
        },
        "seconds": {
            kind: round(float(np.median([judged.seconds[kind] for judged in networks])), 2)
            for kind in (networks[0].seconds if networks else ())
        },
        "networks": [
            {
                "name": judged.record["name"],
                "zoo": judged.zoo,
                "family": judged.record["family"],
                "training": judged.record.get("training"),
                "backdoor": judged.record["backdoor"],
                "p": {name: round(value, 5) for name, value in judged.votes.items()},
                "score": {name: round(value, 4) for name, value in judged.scores.items()},
                "target": dict(judged.target),
                "recognised": judged.recognised,
            }
            for judged in networks
        ],
    }


def _caught_by(networks: Sequence[Judged], kind: str, names: Sequence[str]) -> dict[str, Any]:
    own = [judged for judged in networks if attack_kind(judged) == kind]
    return {name: share([judged for judged in own if name in judged.votes], name) for name in names}


def _by(key: Callable[[Judged], str], networks: Sequence[Judged], names: Sequence[str]) -> dict[str, Any]:
    """The votes' figures on the networks of each ``key``, and how many of them the checks would judge."""
    groups: dict[str, list[Judged]] = {}
    for judged in sorted(networks, key=key):
        groups.setdefault(key(judged), []).append(judged)
    return {
        value: {"votes": {name: vote_figures(own, name) for name in names}, "recognised": _recognised(own)}
        for value, own in groups.items()
    }


def _recognised(networks: Sequence[Judged]) -> dict[str, int]:
    known = [is_poisoned(judged) for judged in networks if judged.recognised]
    return {"clean": known.count(False), "poisoned": known.count(True)}


def _left_out_figures(found: LeftOut, names: Sequence[str]) -> dict[str, Any]:
    votes = {name: vote_figures(found.judged, name, found.level) for name in names}
    recognised = _recognised(found.judged)
    return {"references": found.references, "level": found.level, "votes": votes, "recognised": recognised}


def vote_figures(networks: Sequence[Judged], name: str, level: float | None = None) -> dict[str, Any]:
    """AUC with its interval where there are both kinds, and the shares failing at ``level`` or the significance."""
    voted = [judged for judged in networks if name in judged.votes]
    clean = [judged for judged in voted if not is_poisoned(judged)]
    backdoored = [judged for judged in voted if is_poisoned(judged)]
    figures: dict[str, Any] = {"clean": share(clean, name, level), "poisoned": share(backdoored, name, level)}
    if clean and backdoored:
        scores = [np.array([judged.scores[name] for judged in part]) for part in (clean, backdoored)]
        figures["auc"] = round(area_under_curve(*scores), 4)
        figures["auc_95"] = [round(bound, 4) for bound in auc_interval(*scores)]
    return figures


def share(networks: Sequence[Judged], name: str, level: float | None = None) -> dict[str, Any]:
    """How many of ``networks`` fail by the vote ``name``, with the 95 % Clopper-Pearson interval of the share."""
    count, failed = len(networks), sum(judged.votes[name] <= (level or SIGNIFICANCE) for judged in networks)
    interval = [round(bound, 4) for bound in false_positive_interval(failed, count)] if count else None
    return {"networks": count, "failed": failed, "interval_95": interval}


def target_figures(networks: Sequence[Judged], vote: str) -> dict[str, int]:
    """Of the networks with one target class that ``vote`` caught, for how many it names that."""
    told = [
        judged
        for judged in networks
        if is_poisoned(judged)
        and judged.votes.get(vote, 1.0) <= SIGNIFICANCE
        and judged.record["backdoor"]["target"] is not None
    ]
    right = sum(judged.target[vote] == judged.record["backdoor"]["target"] for judged in told)
    return {"caught": len(told), "right": right}


def as_markdown(figures: dict[str, Any], command: str, machine: str) -> str:
    """The tables of docs/results/reversal-NAME.md."""
    references = next(iter(figures["references"].values()))
    lines = [
        f"# Behavioural checks with the detector pack {figures['pack']}",
        "",
        f"Written by `{command}` on {machine}. {references} clean reference networks; every network below is none of",
        f'them, and nothing was fitted on it. A network fails where p ≤ {figures["significance"]:g}; "all checks" is',
        "the verdict, judged jointly. In brackets: 95 % intervals (bootstrap of the AUC, Clopper-Pearson of shares).",
        "",
        "| vote | AUC | poisoned caught | clean flagged |",
        "| --- | --- | --- | --- |",
        *(_row(name, values) for name, values in figures["votes"].items()),
        "",
        *_target_lines(figures),
        "",
        "## By kind of attack: caught",
        "",
        *_caught_table(figures),
        "",
        "## By architecture",
        "",
        "The verdicts below are those of all networks, also of those that the pack does not take for networks of its",
        'task and architecture, which are `not_assessed` in a scan: "judged" says how many it does.',
        "",
        *_group_table(figures, "architecture"),
        "",
        "## By optimiser",
        "",
        "Networks of all architectures.",
        "",
        *_group_table(figures, "optimizer"),
        "",
        *_left_out_lines(figures),
    ]
    return "\n".join(lines)


def _row(name: str, values: dict[str, Any]) -> str:
    auc = f"{values['auc']:.3f} ({values['auc_95'][0]:.3f} to {values['auc_95'][1]:.3f})" if "auc" in values else "-"
    return f"| {name} | {auc} | {_share(values['poisoned'])} | {_share(values['clean'])} |"


def _share(values: dict[str, Any]) -> str:
    if not values["networks"]:
        return "-"
    low, high = values["interval_95"]
    return f"{values['failed']} of {values['networks']} ({low:.1%} to {high:.1%})"


def _target_lines(figures: dict[str, Any]) -> list[str]:
    return [
        f"By {vote} the target class is right in {found['right']} of {found['caught']} caught networks that have one."
        for vote, found in figures["target"].items()
    ] + [
        f"Reversal on {kind} took {seconds:.1f} s for one network (median; one thread of a machine that was busy)."
        for kind, seconds in figures["seconds"].items()
    ]


def _joint(figures: dict[str, Any]) -> list[str]:
    return [name for name in figures["votes"] if "/" not in name]


def _caught_table(figures: dict[str, Any]) -> list[str]:
    names = list(figures["votes"])
    return [
        f"| attack | {' | '.join(names)} |",
        f"| --- |{' --- |' * len(names)}",
        *(
            f"| {kind} | " + " | ".join(f"{v[n]['failed']}/{v[n]['networks']}" for n in names) + " |"
            for kind, v in figures["by attack"].items()
        ),
    ]


def _group_table(figures: dict[str, Any], key: str) -> list[str]:
    rows = [
        f"| {value} | {_cells(own, name)} |" for value, own in figures[f"by {key}"].items() for name in _joint(figures)
    ]
    head = f"| {key} | judged (poisoned + clean) | vote | AUC | poisoned caught | clean flagged |"
    return [head, "| --- | --- | --- | --- | --- | --- |", *rows]


def _left_out_lines(figures: dict[str, Any]) -> list[str]:
    if not figures["left out"]:
        return []
    rows = [
        f"| {value} | {own['references']} | {own['level']:.1%} | {_cells(own, name)} |"
        for value, own in figures["left out"].items()
        for name in _joint(figures)
        if name.startswith("all checks")
    ]
    return [
        "## Trained by an optimiser that no reference network was trained by",
        "",
        "The same measurements, judged by references and statistics without the networks of that optimiser, at the",
        "significance or the smallest p-value that so many references can give. Patterns and prototypes stay as they",
        "are: where they were fitted on networks of that optimiser too, only the judgement is without it.",
        "",
        "| left out | references | at p ≤ | judged (poisoned + clean) | vote | AUC | poisoned caught | clean flagged |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *rows,
        "",
    ]


def _cells(group: dict[str, Any], name: str) -> str:
    """How many networks of a group are judged, and what a vote says of them, as cells of a table."""
    values, judged = group["votes"][name], group["recognised"]
    auc = f"{values['auc']:.3f}" if "auc" in values else "-"
    counts = [f"{values[kind]['failed']}/{values[kind]['networks']}" for kind in ("poisoned", "clean")]
    return f"{judged['poisoned']} + {judged['clean']} | {name} | {auc} | {counts[0]} | {counts[1]}"
