"""Figures 3 to 5 of MetaPoison (2020) as PNG, from measured values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ...pictures import new_figure, png
from ..intervals import shares_with_reach
from ..parts import Values
from .inside_plots import attack_bars, feature_boxes, weight_paths
from .palette import ARM_COLOURS, ARM_LABELS, PAIR_COLOURS, PAIR_MARKERS
from .rows import compared

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

VARIANT_LABELS = {
    "baseline": "baseline",
    "batch and rate": "batch and\nrate doubled",
    "optimiser": "other\noptimiser",
    "regularisation": "decay and\naugmentation",
    "architecture": "other\narchitecture",
}


def figure_3(results: Values) -> dict[str, bytes]:
    """(a) losses of the target while crafting, and of victims; (b) success and validation accuracy by craft step."""
    pairs = results["pairs"]
    if not pairs:
        return {}
    losses, success = new_figure(4.6 * len(pairs), 3.8), new_figure(4.6 * len(pairs), 3.8)
    for panel, (label, pair) in zip(_panels(losses, len(pairs)), pairs.items(), strict=True):
        _losses(panel, pair)
        panel.set_title(label, fontsize=10)
    for panel, (label, pair) in zip(_panels(success, len(pairs)), pairs.items(), strict=True):
        _success(panel, pair)
        panel.set_title(label, fontsize=10)
    return {"a": png(losses), "b": png(success)}


def _losses(axes: Axes, pair: Values) -> None:
    history = pair["history"]
    steps = range(1, len(history) + 1)
    axes.plot(steps, [step["loss_before"] for step in history], color="#0072B2", label="surrogates, before unrolling")
    axes.plot(
        steps, [step["loss_after"] for step in history], "--", color="#009E73", label="surrogates, after unrolling"
    )
    known = _known(pair["steps"])
    if known:
        places, losses = [int(step) for step, _ in known], [found["loss"] for _, found in known]
        axes.plot(places, losses, "-o", color="#D55E00", markersize=5, label="victims, after training")
    axes.set(xlabel="craft step", ylabel="target's loss (wanted class)", ylim=(0, None))
    axes.locator_params(axis="x", integer=True)
    axes.legend(fontsize=8)


def _success(axes: Axes, pair: Values) -> None:
    known = _known(pair["steps"])
    places = [int(step) for step, _ in known]
    if known:
        shares, reach = shares_with_reach([found for _, found in known])
        axes.errorbar(
            places, shares, reach, fmt="-o", color="#D55E00", capsize=3, label="target taken for wanted class"
        )
        accuracies = [100 * found["validation_accuracy"] for _, found in known]
        axes.plot(places, accuracies, "--s", color="#0072B2", markersize=4, label="validation accuracy")
        axes.legend(fontsize=8)
    axes.set(
        xlabel="craft steps of the poisons", ylabel="% of victims, with 95 % interval; accuracy (%)", ylim=(-3, 103)
    )
    axes.locator_params(axis="x", integer=True)


def figure_4(results: Values) -> dict[str, bytes]:
    """By epoch: target's loss, success with both statistics, validation accuracy; a thin line for each pair."""
    pairs = results["pairs"]
    if not pairs:
        return {}
    figure = new_figure(10.5, 7.4)
    panels = figure.subplots(2, 2)
    looks = (
        ("target's loss (wanted class)", lambda curve: curve["evaluation"]["loss"], 1.0),
        ("validation accuracy (%)", lambda curve: curve["validation_accuracy"], 100.0),
        ("success (%), evaluation mode", lambda curve: curve["evaluation"]["success"], 100.0),
        ("success (%), batch statistics", lambda curve: curve["batch"]["success"], 100.0),
    )
    for axes, (name, look, factor) in zip(panels.flatten(), looks, strict=True):
        for arm, colour in ARM_COLOURS.items():
            curves = factor * np.array([look(pair[arm]) for pair in pairs.values() if pair.get(arm)])
            if len(curves):
                _lines(axes, curves, colour, arm)
        axes.set(xlabel="epoch", ylabel=name)
        if "success" in name:
            axes.set_ylim(-3, 103)
    panels[0, 0].set_ylim(0, None)
    figure.legend(
        *panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=9, frameon=False
    )
    return {"": png(figure)}


def _lines(axes: Axes, curves: np.ndarray[Any, Any], colour: str, arm: str) -> None:
    epochs = range(1, curves.shape[1] + 1)
    style = {"poisoned": "-", "random": "--", "clean": ":"}[arm]
    for curve in curves:
        axes.plot(epochs, curve, style, color=colour, linewidth=0.6, alpha=0.45)
    axes.plot(epochs, curves.mean(0), style, color=colour, linewidth=2.2, label=f"{ARM_LABELS[arm]}, mean of pairs")


def figure_5(results: Values) -> dict[str, bytes]:
    """(a) success against the share of poisons, (b) on victims that are trained otherwise, one series for each pair."""
    pictures = {}
    budgets = {label: _known(points) for label, points in results["budgets"].items() if compared(points)}
    if budgets:
        pictures["a"] = _budgets(budgets)
    variants = {label: _known(points) for label, points in results["variants"].items() if compared(points)}
    if variants:
        pictures["b"] = _variants(variants)
    return pictures


def _budgets(budgets: dict[str, list[tuple[str, Values]]]) -> bytes:
    figure = new_figure(6.4, 4.2)
    axes = figure.subplots()
    ticks = sorted({float(share) for points in budgets.values() for share, _ in points})
    for number, (label, points) in enumerate(budgets.items()):
        ordered = sorted(points, key=lambda point: float(point[0]))
        shares, reach = shares_with_reach([found for _, found in ordered])
        # Side by side, so that intervals do not hide each other.
        places = [100 * float(share) * 1.05**number for share, _ in ordered]
        axes.errorbar(places, shares, reach, **_series(number), capsize=3, label=label)
    axes.set(xlabel="poisons, % of the training set", ylabel="success (%), 95 % interval", ylim=(-3, 103), xscale="log")
    axes.set_xticks([100 * tick for tick in ticks], [f"{100 * tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.legend(fontsize=8)
    return png(figure)


def _variants(variants: dict[str, list[tuple[str, Values]]]) -> bytes:
    figure = new_figure(7.6, 4.2)
    axes = figure.subplots()
    names = [name for name in VARIANT_LABELS if any(name == own for points in variants.values() for own, _ in points)]
    width = 0.8 / len(variants)
    for number, (label, points) in enumerate(variants.items()):
        shares, reach = shares_with_reach([found for _, found in points])
        places = [names.index(name) + width * (number - (len(variants) - 1) / 2) for name, _ in points]
        colour = PAIR_COLOURS[number % len(PAIR_COLOURS)]
        axes.bar(places, shares, 0.9 * width, yerr=reach, capsize=3, color=colour, ecolor="#333333", label=label)
    axes.set(ylabel="success (%), 95 % interval", ylim=(0, 103))
    axes.set_xticks(range(len(names)), [VARIANT_LABELS[name] for name in names], fontsize=9)
    figure.legend(loc="outside upper center", ncols=len(variants), fontsize=9, frameon=False)
    return png(figure)


def figure_6(results: Values) -> dict[str, bytes]:
    """(a) weights on their principal plane, (b) distances of features, (c) success of the kinds of attack."""
    pictures = {}
    if results["looked"]:
        pictures["a"] = weight_paths({label: pair["weights"] for label, pair in results["looked"].items()})
        pictures["b"] = feature_boxes({label: pair["features"] for label, pair in results["looked"].items()})
    attacks = _known(results["attacks"])
    if compared(results["attacks"]):
        pictures["c"] = attack_bars(attacks, *shares_with_reach([found for _, found in attacks]))
    return pictures


def _series(number: int) -> dict[str, str]:
    return {"color": PAIR_COLOURS[number % len(PAIR_COLOURS)], "fmt": f"-{PAIR_MARKERS[number % len(PAIR_MARKERS)]}"}


def _known(points: Values) -> list[tuple[str, Values]]:
    return [(name, found) for name, found in points.items() if found is not None]


def _panels(figure: Figure, count: int) -> list[Axes]:
    return list(figure.subplots(1, count, squeeze=False)[0])
