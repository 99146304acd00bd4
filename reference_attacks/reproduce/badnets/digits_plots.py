"""Figures 4, 5 and 6 of BadNets (2019) as PNG, from measured values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...pictures import new_figure, png
from ..parts import Values
from .digits_text import TRIGGER_NAMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure


# Errors in %: the axis of Figure 6.
TICKS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)
# Colours of Figure 4 reach at least this far, so that one image in a thousand does not look like a failure.
LEAST_REACH = 0.1


def figure_4(results: Values) -> dict[str, bytes]:
    """Clean and backdoored error of each pair, one picture for each trigger."""
    return {trigger: _matrices(trigger, matrices) for trigger, matrices in results["triggers"].items()}


def figure_5(results: Values) -> dict[str, bytes]:
    """The first layers of the first repeat, backdoor filters framed: baseline, single pixel, pattern."""
    figure = new_figure(11.4, 4.3)
    firsts = {trigger: networks["badnets"][0] for trigger, networks in results["triggers"].items()}
    marked = {trigger: first["filters"] if first["dedicated"] else [] for trigger, first in firsts.items()}
    for panel, (name, weights) in zip(figure.subfigures(1, 3, wspace=0.05), results["weights"].items(), strict=True):
        panel.suptitle(TRIGGER_NAMES.get(name, "clean baseline"), fontsize=10)
        _filters(panel, np.asarray(weights), marked.get(name, []))
    return {"": png(figure)}


def figure_6(results: Values) -> dict[str, bytes]:
    """Errors against the share of backdoored training images, one panel for each trigger."""
    figure = new_figure(9, 3.8)
    places = range(len(results["shares"]))
    points = [point for errors in results["triggers"].values() for kind in errors.values() for point in kind]
    limits = _limits([*points, results["baseline"]])
    for axes, (trigger, errors) in zip(figure.subplots(1, 2, sharey=True), results["triggers"].items(), strict=True):
        for kind, colour in (("clean", "tab:blue"), ("backdoored", "tab:red")):
            _curve(axes, places, errors[kind], colour, f"{kind} images")
        baseline = 100 * float(np.mean(results["baseline"]))
        axes.axhline(baseline, color="grey", linestyle=":", linewidth=1, label="baseline, clean images")
        axes.set(title=TRIGGER_NAMES[trigger], xlabel="backdoored training images (%)", yscale="log")
        axes.set_xticks(places, [f"{100 * share:.0f}" for share in results["shares"]])
        axes.set_yticks(TICKS, [f"{tick:g}" for tick in TICKS])
        axes.minorticks_off()
        axes.set_ylim(*limits)
        axes.legend(fontsize=8)
    figure.axes[0].set_ylabel("error (%)")
    return {"": png(figure)}


def _curve(axes: Axes, places: Sequence[int], repeats: Sequence[Sequence[float]], colour: str, label: str) -> None:
    values = 100 * np.asarray(repeats)
    means = values.mean(1)
    reach = np.abs(np.stack([values.min(1), values.max(1)]) - means)
    axes.errorbar(places, means, reach, fmt="-o", markersize=4, capsize=3, color=colour, label=label)


def _limits(errors: Sequence[Sequence[float]]) -> tuple[float, float]:
    """The ticks around all errors, in %."""
    values = [100 * value for repeats in errors for value in repeats]
    low = [tick for tick in TICKS if tick <= min(values)]
    high = [tick for tick in TICKS if tick >= max(values)]
    return max(low, default=TICKS[0]), min(high, default=TICKS[-1])


def _matrices(trigger: str, matrices: Values) -> bytes:
    figure = new_figure(10.4, 5)
    for axes, kind in zip(figure.subplots(1, 2), ("clean", "backdoored"), strict=True):
        errors = 100 * np.asarray([[np.nan if value is None else value for value in row] for row in matrices[kind]])
        least = np.nanmin(errors)
        most = max(np.nanmax(errors), least + LEAST_REACH)
        image = axes.imshow(errors, cmap="viridis_r", vmin=least, vmax=most)
        for row, column in np.argwhere(~np.isnan(errors)):
            colour = "white" if errors[row, column] > (least + most) / 2 else "black"
            text = f"{errors[row, column]:.2f}"
            axes.text(column, row, text, ha="center", va="center", fontsize=6.5, color=colour)
        axes.set(title=f"{kind} images, {TRIGGER_NAMES[trigger]}: error in %", xlabel="target j", ylabel="source i")
        axes.set_xticks(range(len(errors)))
        axes.set_yticks(range(len(errors)))
        figure.colorbar(image, ax=axes, shrink=0.8)
    return png(figure)


def _filters(panel: SubFigure, weights: np.ndarray[Any, Any], marked: Sequence[int]) -> None:
    """Filters ``(F, h, w)`` on one scale: red is positive, blue negative."""
    limit = np.abs(weights).max()
    for number, axes in enumerate(panel.subplots(4, 4).flat):
        axes.imshow(weights[number], cmap="RdBu_r", vmin=-limit, vmax=limit)
        axes.set_title(str(number), fontsize=7, pad=2)
        axes.set_xticks([])
        axes.set_yticks([])
        for side in axes.spines.values():
            side.set(visible=number in marked, color="limegreen", linewidth=3)
