"""The figures of ``zoo benchmark`` as a Markdown table for each task."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import Any

from .benchmark import Figures

ABOUT = (
    "Written by `python -m reference_attacks zoo benchmark`. All ways train the same networks on the same batches, in "
    "turn, in processes that are started and warm, with the images in memory; batches are assembled, networks are not "
    "evaluated. Medians, in brackets the lowest and the highest."
)


def read_figures(path: Path) -> dict[str, Figures]:
    """The figures of earlier runs by task, none where ``path`` does not exist."""
    found: dict[str, Figures] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


def as_markdown(figures: dict[str, Figures]) -> str:
    """One section for each task."""
    lines = [
        "# Networks an hour",
        "",
        ABOUT,
        "",
        *(line for task, found in figures.items() for line in _section(task, found)),
    ]
    return "\n".join(lines)


def _section(task: str, found: Figures) -> list[str]:
    plan, computer = found["plan"], found["computer"]
    limits = [f"{median(rates) / 1e9:,.0f} in {precision}" for precision, rates in found["limits_in_flops"].items()]
    machine = [computer["processor"], f"{computer['cores']} cores", computer["system"], computer.get("accelerator")]
    software = [f"{name} {number}" for name, number in found["versions"].items()]
    described = f"{', '.join(filter(None, machine))}; {', '.join(software)}."
    first = median(found["ways"][0]["networks_an_hour"])
    measured = (
        f"{plan['networks']} networks of {plan['steps']} steps ({found['family']}, batches of {found['batch']}), "
        f"n = {plan['rounds']} rounds, device {plan['machine']['device']}. {described} "
        f"One training step of one network is {found['flops_of_a_step'] / 1e9:.2f} GFLOP of matrix products and "
        f"convolutions. Large matrix products in the same run reach {' and '.join(limits)} GFLOP/s on the whole device."
    )
    return [
        f"## {task}",
        "",
        measured,
        "",
        "| way | processes | threads of each | networks an hour | times the first | GFLOP/s | of the device's limit |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *(_row(way, first) for way in found["ways"]),
        "",
    ]


def _row(way: dict[str, Any], first: float) -> str:
    rates = way["networks_an_hour"]
    name = way["name"]
    if name == "zoo build":
        name = f"`zoo build`: groups of {way['group']}, {way['precision']}"
    return (
        f"| {name} | {way['workers']} | {way['threads']} | "
        f"{median(rates):,.0f} ({min(rates):,.0f} to {max(rates):,.0f}) | {median(rates) / first:.2f} | "
        f"{way['flops'] / 1e9:,.0f} | {way['share_of_limit']:.0%} |"
    )
