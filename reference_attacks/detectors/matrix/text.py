"""The detection matrix as Markdown, from the JSON values alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ...reproduce.tables import table

INTRODUCTION = """\
Every attack that the project builds, against every check. A cell says how many of the row's models fail, of how many
were judged, at a false-positive rate of 1 %; a row of clean models so counts false alarms. Each of the first columns is
one check by itself; "all" are all of them judged jointly, at the same rate together. Backdoors that turn fewer than
nine of ten images are left out, and poisons that did not turn their one target. A dash: nothing to judge by or not
applicable; a p-value in brackets: the smallest one where there are too few clean reference models for 1 %. Provenance
has no column: it asks where a file is from and what is in it, not what the model does.
"""


def as_markdown(results: Mapping[str, Any]) -> str:
    """The whole page. ``results``: as ``detection matrix`` writes them."""
    lines = [
        "# What is caught: attacks against checks",
        "",
        f"Written by `{results['command']}` ({results['machine']}, torch {results['versions']['torch']}).",
        "",
        INTRODUCTION.strip(),
    ]
    for group in results["groups"]:
        lines += ["", f"## {group['title']}", "", *_group(group)]
    return "\n".join([*lines, ""])


def _group(group: Mapping[str, Any]) -> Iterable[str]:
    if not group["rows"]:
        return ["No models yet."]
    columns = [
        name for name in group["rows"][0]["columns"] if any(row["columns"][name]["measured"] for row in group["rows"])
    ]
    shown = [_cells(row, columns) for row in group["rows"]]
    return [table(("attack", "models", *columns), shown), "", *_remarks(group), *_details(group)]


def _cells(row: Mapping[str, Any], columns: Sequence[str]) -> list[str]:
    left_out = f" (+{row['left_out']} that do not work)" if row["left_out"] else ""
    return [row["attack"], f"{row['models']}{left_out}", *(_cell(row["columns"][name]) for name in columns)]


def _cell(cell: Mapping[str, Any]) -> str:
    if cell["judged"]:
        return f"{cell['caught']}/{cell['judged']}"
    if cell["measured"]:
        return f"– (p ≥ {cell['smallest_p']:.2g})"
    return "–"


def _remarks(group: Mapping[str, Any]) -> list[str]:
    counts = sorted({cell["references"] for row in group["rows"] for cell in row["columns"].values()} - {0})
    words = " or ".join(str(count) for count in counts) or "no"
    samples = group["samples"] or "none"
    note = f" {group['note']}" if group.get("note") else ""
    return [f"Judged by {words} clean reference models. Clean samples: {samples}.{note}", ""]


def _details(group: Mapping[str, Any]) -> list[str]:
    """What the search found on each object detector, which are few."""
    if group["kind"] != "detector":
        return []
    head = ("detector", "attack", "p", "trigger's target", "wanted", "objects turned", "by the whole detector")
    return [table(head, map(_detail, group["models"])), ""]


def _detail(model: Mapping[str, Any]) -> list[str]:
    found = model["ways"].get("samples", {}).get("findings", {}).get("reversal", {})
    detections = found.get("detections") or {}
    return [
        model["name"],
        model["attack"],
        _number(found.get("p_value"), ".2g"),
        _plain(found.get("target_class")),
        _plain(model["target"]),
        _number(found.get("flipped"), ".0%"),
        _number(detections.get("turned"), ".0%"),
    ]


def _plain(value: Any) -> str:
    return "–" if value is None else str(value)


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else f"{value:{form}}"
