"""Figures 1b and 2 of Poison Frogs (2018), as PNG."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import fill
from typing import Any

from ...pictures import new_figure, png
from ..parts import Values
from .transfer_text import TASKS

BLUE, RED = "#2b6cb0", "#c62828"
MAIN = "dog-frog"
BINS, COLUMNS = 25, 4


def figure_1(results: Values) -> Mapping[str, bytes]:
    """Figure 1b: how confident the poisoned layers are of the base's class, one panel for each experiment."""
    columns = min(COLUMNS, len(results))
    rows = -(-len(results) // columns)
    figure = new_figure(3.4 * columns, 3.0 * rows)
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes in panels[len(results) :]:
        axes.set_axis_off()
    for axes, (name, found) in zip(panels, results.items(), strict=False):
        axes.hist(found["confidence"], bins=[number / BINS for number in range(BINS + 1)], color=BLUE)
        axes.axvline(0.5, color="#999999", linewidth=0.8, linestyle=":")
        axes.set_title(fill(TASKS[name], 36), fontsize=8)
        axes.set(xlabel="probability of the base's class", ylabel="targets", xlim=(0, 1))
    return {"": png(figure)}


def figure_2(results: Values) -> Mapping[str, bytes]:
    """Final angles as a histogram, and their mean by epoch: transfer learning blue, end to end red where there is any.

    Transfer learning is that of the main experiment, or of the first one where that is not there.
    """
    transfer = results["transfer"]
    series = [("transfer learning", transfer.get(MAIN) or next(iter(transfer.values())), BLUE)]
    if results["end_to_end"] is not None:
        series.append(("end to end", results["end_to_end"], RED))
    figure = new_figure(8.4, 3.4)
    left, right = figure.subplots(1, 2)
    for name, found, colour in series:
        _draw_angles(left, right, name, found, colour)
    left.set(title="after the last epoch", xlabel="angle in degrees", ylabel="density of experiments")
    right.set(title="mean, by epoch", xlabel="epoch", ylabel="angle in degrees", ylim=(0, None))
    for axes in (left, right):
        axes.legend()
    return {"": png(figure)}


def _draw_angles(left: Any, right: Any, name: str, found: Values, colour: str) -> None:
    means = found["mean_angle_by_epoch"]
    left.hist(found["angles"], bins=BINS, density=True, color=colour, alpha=0.75, label=name)
    right.plot(range(1, len(means) + 1), means, color=colour, label=name)
