"""Figure 6 of MetaPoison (2020) as PNG, from measured values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...pictures import new_figure, png
from ..parts import Values
from .palette import ARM_COLOURS, PAIR_COLOURS

KINDS = {
    "poisons": "MetaPoison",
    "bases": "the same images\nunperturbed",
    "collisions": "feature\ncollisions",
    "target's class": "target's\nclass",
}
ARROW_LENGTH = 0.12


def weight_paths(pairs: Mapping[str, Values]) -> bytes:
    """The clean and the poisoned path on their principal plane, and where unrolled poisons push."""
    figure = new_figure(5.2 * len(pairs), 5.0)
    panels = figure.subplots(1, len(pairs), squeeze=False)[0]
    for axes, (label, found) in zip(panels, pairs.items(), strict=True):
        paths = {name: np.asarray(found[name]) for name in ("clean", "poisoned")}
        for name, path in paths.items():
            style = "-o" if name == "poisoned" else ":s"
            axes.plot(*path.T, style, color=ARM_COLOURS[name], markersize=3, linewidth=1.3, label=f"{name} victim")
            axes.plot(*path[-1], style[-1], color=ARM_COLOURS[name], markersize=9)
        axes.plot(*paths["clean"][0], "*", color="black", markersize=13, label="start of both")
        _arrows(axes, paths["clean"], found["arrows"], np.ptp(np.concatenate(list(paths.values())), axis=0).max())
        axes.set(
            title=f"{label}: {found['explained']:.0%} of the variance",
            xlabel="first principal component",
            ylabel="second principal component",
        )
        axes.margins(0.12)
        axes.legend(fontsize=8)
    return png(figure)


def _arrows(axes: Any, clean: Any, arrows: Sequence[Values], extent: float) -> None:
    starts = clean[[arrow["epoch"] for arrow in arrows]]
    directions = np.asarray([arrow["direction"] for arrow in arrows])
    lengths = np.linalg.norm(directions, axis=1, keepdims=True)
    directions = directions / np.maximum(lengths, 1e-9) * ARROW_LENGTH * extent
    axes.quiver(
        *starts.T,
        *directions.T,
        angles="xy",
        scale_units="xy",
        scale=1,
        width=0.006,
        color="#009E73",
        zorder=3,
        label="push of unrolled poisons\n(direction only)",
    )


def feature_boxes(pairs: Mapping[str, Values]) -> bytes:
    """Quantiles of distances to the target: boxes from 25 to 75 %, whiskers from 5 to 95 %."""
    networks = list(next(iter(pairs.values())))
    figure = new_figure(5.4 * len(networks), 4.2)
    panels = figure.subplots(1, len(networks), squeeze=False, sharey=True)[0]
    for axes, network in zip(panels, networks, strict=True):
        for number, (label, found) in enumerate(pairs.items()):
            width = 0.7 / len(pairs)
            places = [place + width * (number - (len(pairs) - 1) / 2) for place in range(len(KINDS))]
            _boxes(axes, [found[network][kind] for kind in KINDS], places, width, number, label)
        axes.set_xticks(range(len(KINDS)), list(KINDS.values()), fontsize=8)
        axes.axhline(1, color="#999999", linewidth=0.8, linestyle=":")
        axes.set_title(f"features of the {network} victim")
    # Of both panels, whose axes are shared.
    panels[0].set_ylim(0, None)
    panels[0].set_ylabel("distance to the target\n(median of unperturbed images = 1)")
    handles = panels[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper center", ncols=len(pairs), fontsize=9, frameon=False)
    return png(figure)


def _boxes(
    axes: Any, rows: Sequence[Sequence[float]], places: Sequence[float], width: float, number: int, label: str
) -> None:
    names = ("whislo", "q1", "med", "q3", "whishi")
    boxes = [dict(zip(names, row, strict=True)) for row in rows]
    colour = PAIR_COLOURS[number % len(PAIR_COLOURS)]
    axes.bxp(
        boxes,
        positions=places,
        widths=0.85 * width,
        showfliers=False,
        patch_artist=True,
        boxprops={"facecolor": colour, "alpha": 0.6},
        medianprops={"color": "black"},
        manage_ticks=False,
    )
    axes.plot([], [], "s", color=colour, alpha=0.6, label=label)


def attack_bars(attacks: Sequence[tuple[str, Values]], shares: Any, reach: Any) -> bytes:
    """Success of each kind of attack, a bar of it and a point for each pair."""
    figure = new_figure(1.6 + 1.5 * len(attacks), 4.0)
    axes = figure.subplots()
    axes.bar(
        range(len(attacks)), shares, 0.6, yerr=reach, capsize=4, color="#56B4E9", ecolor="#333333", label="all pairs"
    )
    for place, (_, found) in enumerate(attacks):
        spread = np.linspace(-0.2, 0.2, len(found["by_pair"])) if len(found["by_pair"]) > 1 else [0.0]
        points = [100 * share for share in found["by_pair"]]
        axes.plot(
            place + np.asarray(spread), points, "o", color="#D55E00", markersize=5, label="" if place else "one pair"
        )
    axes.set_xticks(range(len(attacks)), [kind for kind, _ in attacks])
    axes.set(ylabel="success (%), 95 % interval", ylim=(-3, 108))
    axes.legend(fontsize=8)
    return png(figure)
