"""The figures of ``reversal benchmark`` as a Markdown table for each task."""

from __future__ import annotations

from statistics import median
from typing import Any

import numpy as np

from ..detectors.figures import area_under_curve, auc_interval
from .benchmark import Figures, Result

ABOUT = (
    "Every tool reverses triggers on the same networks and the same clean test images, which no network was trained "
    "on, with one thread. AUC: clean against poisoned networks, by each statistic, with its 95 % bootstrap interval; a "
    "network that a tool could not assess counts as its least suspicious. Flagged: by the tool's own verdict. Image "
    "gradients: images that went through the network forwards and backwards."
)
COLUMNS = (
    "tool",
    "seconds a network, median (range)",
    "seconds, all",
    "image gradients a network, median",
    "statistic",
    "AUC",
    "flagged clean",
    "flagged poisoned",
    "not assessed",
)


def as_markdown(figures: dict[str, Figures]) -> str:
    """One section for each task."""
    lines = [
        "# Trigger reversal by several tools",
        "",
        ABOUT,
        "",
        *(line for task, found in figures.items() for line in _section(task, found)),
    ]
    return "\n".join(lines)


def areas(results: list[Result]) -> dict[str, dict[str, Any]]:
    """The AUC of each statistic with its interval, the tool's own first; {} where there is none."""
    names = next((list(result["statistics"]) for result in results if result["statistics"]), [])
    found = {}
    for name in names:
        clean, poisoned = (
            np.array([_value(result, name) for result in results if result["poisoned"] == kind])
            for kind in (False, True)
        )
        found[name] = {"auc": area_under_curve(clean, poisoned), "auc_95": auc_interval(clean, poisoned)}
    return found


def _value(result: Result, name: str) -> float:
    value = result["statistics"].get(name)
    return -np.inf if value is None else float(value)


def _section(task: str, found: Figures) -> list[str]:
    plan, computer = found["plan"], found["computer"]
    clean, poisoned = (len(found["networks"][kind]) for kind in ("clean", "poisoned"))
    machine = [computer["processor"], f"{computer['cores']} cores", computer["system"]]
    software = [f"{name} {number}" for name, number in found["versions"].items()]
    described = (
        f"n = {clean} clean and {poisoned} poisoned networks of {found['classes']} classes, {found['images']} images, "
        f"seed {plan['seed']}, {_processes(found['workers'])}. {', '.join(machine)}; {', '.join(software)}."
    )
    return [
        f"## {task}",
        "",
        f"Written by `{found['command']}`. {described}",
        "",
        _line(COLUMNS),
        _line(["---"] * len(COLUMNS)),
        *(row for tool in found["tools"] for row in _rows(tool)),
        "",
        *(f"- `{tool['name']}`: {_explained(tool)}" for tool in found["tools"] if not tool["missing"]),
        "",
    ]


def _processes(workers: int) -> str:
    return "one process" if workers == 1 else f"{workers} processes at once, which slow each other down"


def _explained(tool: dict[str, Any]) -> str:
    settings = ", ".join(f"{name} {value}" for name, value in _shown(tool["settings"]))
    return f"verdict: {tool['flags']}" + (f"; settings: {settings}." if settings else ".")


def _shown(settings: dict[str, Any]) -> list[tuple[str, Any]]:
    """The settings by name, those of an inner dictionary too; without the code's digest and without what is None."""
    flat = [pair for name, value in settings.items() for pair in _unpacked(name, value)]
    return [(name, value) for name, value in flat if name != "source" and value is not None]


def _unpacked(name: str, value: Any) -> list[tuple[str, Any]]:
    return list(value.items()) if isinstance(value, dict) else [(name, value)]


def _rows(tool: dict[str, Any]) -> list[str]:
    """One row for each statistic; what is the tool's rather than the statistic's is in the first alone."""
    if tool["missing"]:
        return [_line([tool["name"], tool["missing"], *["–"] * (len(COLUMNS) - 2)])]
    results = tool["results"]
    seconds = [result["seconds"] for result in results]
    first = [
        tool["name"],
        f"{median(seconds):,.1f} ({min(seconds):,.1f} to {max(seconds):,.1f})",
        f"{sum(seconds):,.0f}",
        f"{median(result['image_gradients'] for result in results):,.0f}",
    ]
    last = [
        _flagged(results, poisoned=False),
        _flagged(results, poisoned=True),
        str(sum(not result["statistics"] for result in results)),
    ]
    rows = [
        _line([*(first if number == 0 else ["", "", "", ""]), name, _area(area), *(last if number == 0 else [""] * 3)])
        for number, (name, area) in enumerate(areas(results).items())
    ]
    return rows or [_line([*first, "–", "–", *last])]


def _area(area: dict[str, Any]) -> str:
    low, high = area["auc_95"]
    return f"{area['auc']:.3f} ({low:.3f} to {high:.3f})"


def _flagged(results: list[Result], *, poisoned: bool) -> str:
    verdicts = [result["flagged"] for result in results if result["poisoned"] == poisoned]
    if all(verdict is None for verdict in verdicts):
        return "–"
    return f"{sum(bool(verdict) for verdict in verdicts)} of {len(verdicts)}"


def _line(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"
