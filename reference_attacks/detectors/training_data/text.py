"""What the check of the training set finds, as Markdown, from the JSON values alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ...reproduce.tables import table

RATE = 0.01
RANKINGS = ("neighbours", "spectral", "loss", "combined")
INTRODUCTION = """\
Training sets of which every poison is known, looked at by `training-data` through the model that was trained on them.
Each cell of a ranking says which share of the poisons is among its first 1 % / 5 % of the images: no ranking can have
all of them there where there are more poisons than that. `p` is the p-value of the whole set against the clean samples,
after the correction for all classes, scores and depths. A set fails at p ≤ 0.01 where this check is the only one that
judges, and at p ≤ 0.00005 beside the checks of the model. "Success" is the share of triggered test images that get the
attacker's label. Sets of Poison Frogs are also looked at by the clean network that the victim was trained on from ("by
the network before"). "Stand out" is of the images that the report of a failed set lists first, all of one class: how
many of them are poisons.
"""


def as_markdown(results: Mapping[str, Any]) -> str:
    """The whole page. ``results``: as ``detection training-data`` writes them."""
    poisoned = [case for case in results["cases"] if case["poisons"]]
    clean = [case for case in results["cases"] if not case["poisons"]]
    lines = [
        "# Poisons that are found in training sets",
        "",
        f"Written by `{results['command']}` ({results['machine']}, torch {results['versions']['torch']}).",
        "",
        INTRODUCTION.strip(),
        "",
        "## Poisoned sets",
        "",
        table(
            ("set", "images", "poisons", "success", "clean samples", *RANKINGS, "p", "verdict", "stand out"),
            map(_poisoned_row, poisoned),
        ),
        "",
        "## Clean sets: false alarms",
        "",
        table(
            ("clean samples are", "sets", "failed at 0.01", "at 0.00005", "smallest p", "median p"), _clean_rows(clean)
        ),
        "",
        *_seconds(results["cases"]),
    ]
    return "\n".join([*lines, ""])


def _poisoned_row(case: Mapping[str, Any]) -> list[str]:
    success = case.get("attack_success")
    return [
        case["title"],
        f"{case['images']:,}",
        f"{case['poisons']:,}",
        "–" if success is None else f"{success:.0%}",
        f"{case['clean_samples']:,}",
        *(" / ".join(f"{share:.0%}" for share in case["caught"][name].values()) for name in RANKINGS),
        "–" if case["p_value"] is None else f"{case['p_value']:.1g}",
        _verdict(case["p_value"]),
        _standing_out(case),
    ]


def _standing_out(case: Mapping[str, Any]) -> str:
    if _verdict(case["p_value"]) != "failed":
        return "–"
    found = case["standing_out"]
    return f"{found['poisons']:,} of {found['images']:,}"


def _verdict(p_value: float | None) -> str:
    if p_value is None:
        return "not assessed"
    return "failed" if p_value <= RATE else "passed"


def _clean_rows(cases: Sequence[Mapping[str, Any]]) -> Iterable[list[str]]:
    for samples in dict.fromkeys(case["samples"] for case in cases):
        values = sorted(case["p_value"] for case in cases if case["samples"] == samples and case["p_value"] is not None)
        if values:
            yield [
                str(samples),
                str(len(values)),
                str(sum(value <= RATE for value in values)),
                str(sum(value <= RATE * 0.005 for value in values)),
                f"{values[0]:.2g}",
                f"{values[len(values) // 2]:.2g}",
            ]


def _seconds(cases: Sequence[Mapping[str, Any]]) -> list[str]:
    if not cases:
        return []
    slowest = max(cases, key=lambda case: case["processor_seconds"])
    sizes = f"{slowest['images']:,} images and {slowest['clean_samples']:,} clean samples"
    seconds = f"{slowest['processor_seconds']:.0f} s of processor time"
    return [f"The check took at most {seconds}, on {sizes}, with {slowest['features']} features."]
