"""Figures 3 and 5 of Poison Frogs (2018) as PNG, from measured values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...pictures import new_figure, png
from ..intervals import shares_with_reach
from ..parts import Values

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {"target class": "tab:blue", "base class": "tab:red", "poisons": "tab:green", "target": "black"}
MARKERS = {"target class": "o", "base class": "o", "poisons": "^", "target": "*"}
SIZES = {"target class": 10, "base class": 10, "poisons": 26, "target": 150}


def figure_3(results: Values) -> dict[str, bytes]:
    """Features under the clean network (left) and the victim's (right), one row for each attack."""
    attacks = results["attacks"]
    if not attacks:
        return {}
    figure = new_figure(9, 4.2 * len(attacks))
    rows = figure.subplots(len(attacks), 2, squeeze=False)
    for row, (name, attack) in zip(rows, attacks.items(), strict=True):
        for axes, network in zip(row, ("clean", "victim"), strict=True):
            _plane(axes, attack["projection"][network])
            axes.set_title(f"{name}: {'before' if network == 'clean' else 'after'}", fontsize=10)
    rows[0][0].legend(fontsize=8)
    return {"": png(figure)}


def _plane(axes: Axes, projection: Values) -> None:
    for name, colour in COLOURS.items():
        across, up = np.asarray(projection["points"][name]).T
        axes.scatter(across, up, SIZES[name], color=colour, marker=MARKERS[name], alpha=0.7, linewidths=0, label=name)
    axes.axline((0, 0), (-projection["boundary"][1], projection["boundary"][0]), color="grey", linewidth=1)
    axes.set(xlabel="along u", ylabel="orthogonal to u, towards θ")


def figure_5(results: Values) -> dict[str, bytes]:
    """Success against the number of poisons; and the outliers' confidence and fate."""
    pictures = {"b": _curves(results["curves"])}
    if results["outlier_targets"]:
        pictures["a"] = _outliers(results["outlier_targets"])
    return pictures


def _curves(curves: Values) -> bytes:
    figure = new_figure(6.4, 4.2)
    axes = figure.subplots()
    for number, (label, points) in enumerate(curves.items()):
        known = [(int(poisons), summary) for poisons, summary in points.items() if summary is not None]
        if not known:
            continue
        # Side by side, so that intervals do not hide each other.
        places = [poisons + 0.5 * number for poisons, _ in known]
        shares, reach = shares_with_reach([summary for _, summary in known])
        axes.errorbar(places, shares, reach, fmt="-o", markersize=4, capsize=3, label=label)
    axes.set(xlabel="poisons", ylabel="success (%), 95 % interval", ylim=(-3, 103))
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8)
    return png(figure)


def _outliers(targets: list[Values]) -> bytes:
    figure = new_figure(8, 3.4)
    axes = figure.subplots()
    for success, colour in ((True, "tab:red"), (False, "tab:blue")):
        places = [place for place, target in enumerate(targets) if target["success"] == success]
        heights = [targets[place]["confidence"] for place in places]
        axes.bar(places, heights, color=colour, label="successful" if success else "unsuccessful")
    axes.set(xlabel="target airplane", ylabel="probability before the attack", ylim=(0, 1))
    axes.legend(fontsize=8)
    return png(figure)
