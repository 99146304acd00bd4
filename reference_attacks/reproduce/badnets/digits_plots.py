"""Figures 4, 5 and 6 of BadNets (2019) as PNG, from measured values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...pictures import new_figure, png
from .digits_text import TRIGGER_NAMES
from .parts import Values

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure


def figure_4(results: Values) -> dict[str, bytes]:
    """Clean and backdoored error of each pair, one picture for each trigger."""
    return {trigger: _matrices(trigger, matrices) for trigger, matrices in results["triggers"].items()}


def figure_5(results: Values) -> dict[str, bytes]:
    """The first layers of the first repeat, backdoor filters framed: baseline, single pixel, pattern."""
    figure = new_figure(11.4, 4.3)
    marked = {trigger: networks["badnets"][0]["backdoor_filters"] for trigger, networks in results["triggers"].items()}
    for panel, (name, weights) in zip(figure.subfigures(1, 3), results["weights"].items(), strict=True):
        panel.suptitle(TRIGGER_NAMES.get(name, "clean baseline"), fontsize=10)
        _filters(panel, np.asarray(weights), marked.get(name, []))
    return {"": png(figure)}


def figure_6(results: Values) -> dict[str, bytes]:
    """Errors against the share of backdoored training images, one panel for each trigger."""
    figure = new_figure(9, 3.8)
    places = range(len(results["shares"]))
    for axes, (trigger, errors) in zip(figure.subplots(1, 2, sharey=True), results["triggers"].items(), strict=True):
        for kind, colour in (("clean", "tab:blue"), ("backdoored", "tab:red")):
            _curve(axes, places, errors[kind], colour, f"{kind} images")
        baseline = 100 * float(np.mean(results["baseline"]))
        axes.axhline(baseline, color="grey", linestyle=":", linewidth=1, label="baseline, clean images")
        axes.set(title=TRIGGER_NAMES[trigger], xlabel="backdoored training images (%)", yscale="log")
        axes.set_xticks(places, [f"{100 * share:.0f}" for share in results["shares"]])
        axes.yaxis.set_major_formatter("{x:g}")
        axes.legend(fontsize=8)
    figure.axes[0].set_ylabel("error (%)")
    return {"": png(figure)}


def _curve(axes: Axes, places: Sequence[int], repeats: Sequence[Sequence[float]], colour: str, label: str) -> None:
    values = 100 * np.asarray(repeats)
    means = values.mean(1)
    reach = np.abs(np.stack([values.min(1), values.max(1)]) - means)
    axes.errorbar(places, means, reach, fmt="-o", markersize=4, capsize=3, color=colour, label=label)


def _matrices(trigger: str, matrices: Values) -> bytes:
    figure = new_figure(10.4, 5)
    for axes, kind in zip(figure.subplots(1, 2), ("clean", "backdoored"), strict=True):
        errors = 100 * np.asarray([[np.nan if value is None else value for value in row] for row in matrices[kind]])
        image = axes.imshow(errors, cmap="viridis_r", vmin=0)
        middle = np.nanmax(errors) / 2
        for row, column in np.argwhere(~np.isnan(errors)):
            colour = "white" if errors[row, column] > middle else "black"
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
