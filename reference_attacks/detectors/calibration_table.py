"""The figures of a calibrated pack, as JSON values and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pytest_backdoor.calibration import DetectorPack

from .calibrate import SIGNIFICANCE, Judged, is_poisoned
from .figures import area_under_curve, auc_interval, false_positive_interval


def attack_kind(judged: Judged) -> str | None:
    """Such as "patch5, source-target"; None for a clean network."""
    backdoor = judged.record["backdoor"]
    return None if backdoor is None else f"{backdoor['kind']}, {backdoor['goal']}"


def architecture(judged: Judged) -> str:
    """The family of a network's architecture."""
    return str(judged.record["family"])


def figures_of(pack: DetectorPack, networks: Sequence[Judged]) -> dict[str, Any]:
    """Every vote's figures on ``networks``: over all, by kind of attack and by architecture."""
    names = list(dict.fromkeys(name for judged in networks for name in judged.votes))
    kinds = sorted({kind for judged in networks if (kind := attack_kind(judged))})
    shapes = sorted({architecture(judged) for judged in networks})
    return {
        "pack": pack.name,
        "references": {name: len(scores.scores) for name, scores in pack.references.items()},
        "significance": SIGNIFICANCE,
        "votes": {name: vote_figures(networks, name) for name in names},
        "by attack": {kind: _caught_by(networks, kind, names) for kind in kinds},
        "by architecture": {shape: _voted_on(networks, shape, names) for shape in shapes},
        "target": {
            vote: target_figures(networks, vote) for vote in dict.fromkeys(t for one in networks for t in one.target)
        },
        "recognised": {shape: _recognised(networks, shape) for shape in shapes},
        "seconds": {
            kind: round(float(np.median([judged.seconds[kind] for judged in networks])), 2)
            for kind in (networks[0].seconds if networks else ())
        },
        "networks": [
            {
                "name": judged.record["name"],
                "zoo": judged.zoo,
                "family": judged.record["family"],
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


def _voted_on(networks: Sequence[Judged], shape: str, names: Sequence[str]) -> dict[str, Any]:
    own = [judged for judged in networks if architecture(judged) == shape]
    return {name: vote_figures(own, name) for name in names}


def _recognised(networks: Sequence[Judged], shape: str) -> dict[str, int]:
    """How many clean and how many poisoned networks of an architecture the checks would judge."""
    own = [judged for judged in networks if architecture(judged) == shape and judged.recognised]
    return {"clean": sum(not is_poisoned(one) for one in own), "poisoned": sum(is_poisoned(one) for one in own)}


def vote_figures(networks: Sequence[Judged], name: str) -> dict[str, Any]:
    """AUC with its interval where there are both kinds, and the shares that fail at the significance."""
    voted = [judged for judged in networks if name in judged.votes]
    clean = [judged for judged in voted if not is_poisoned(judged)]
    backdoored = [judged for judged in voted if is_poisoned(judged)]
    figures: dict[str, Any] = {"clean": share(clean, name), "poisoned": share(backdoored, name)}
    if clean and backdoored:
        scores = [np.array([judged.scores[name] for judged in part]) for part in (clean, backdoored)]
        figures["auc"] = round(area_under_curve(*scores), 4)
        figures["auc_95"] = [round(bound, 4) for bound in auc_interval(*scores)]
    return figures


def share(networks: Sequence[Judged], name: str) -> dict[str, Any]:
    """How many of ``networks`` fail by the vote ``name``, with the 95 % Clopper-Pearson interval of the share."""
    count, failed = len(networks), sum(judged.votes[name] <= SIGNIFICANCE for judged in networks)
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
        *_architecture_table(figures),
        "",
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


def _architecture_table(figures: dict[str, Any]) -> list[str]:
    names = _joint(figures)
    rows = []
    for shape, votes in figures["by architecture"].items():
        for name in names:
            values = votes[name]
            auc = f"{values['auc']:.3f}" if "auc" in values else "-"
            counts = [f"{values[kind]['failed']}/{values[kind]['networks']}" for kind in ("poisoned", "clean")]
            judged = figures["recognised"][shape]
            known = f"{judged['poisoned']} + {judged['clean']}"
            rows.append(f"| {shape} | {known} | {name} | {auc} | {counts[0]} | {counts[1]} |")
    head = "| architecture | judged (poisoned + clean) | vote | AUC | poisoned caught | clean flagged |"
    return [head, "| --- | --- | --- | --- | --- | --- |", *rows]
