"""Figures 9 and 11 of BadNets (2019): what the neurons of the last convolutional layer do on average."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...pictures import new_figure, png
from ..parts import Values

COLUMNS = 16
FRAME = "#c62828"
NAMES = {"detectors": "detector", "classifiers": "classifier"}


def draw_activations(results: Values) -> Mapping[str, bytes]:
    """For each kind of network three maps, a cell for each neuron; the dedicated neurons are framed."""
    return {kind: _draw(found, NAMES[kind]) for kind, found in results.items()}


def _draw(found: Values, name: str) -> bytes:
    import numpy as np

    clean, backdoored = (np.array(found[part]) for part in ("clean", "backdoored"))
    difference = backdoored - clean
    figure = new_figure(12.6, 2.9)
    panels = figure.subplots(1, 3)
    highest, furthest = max(clean.max(), backdoored.max()), abs(difference).max()
    maps = (("clean signs", clean), ("signs with the sticker", backdoored), ("difference", difference))
    for axes, (title, values) in zip(panels, maps, strict=True):
        scale: dict[str, Any] = {"cmap": "viridis", "vmin": 0, "vmax": highest}
        if title == "difference":
            scale = {"cmap": "RdBu_r", "vmin": -furthest, "vmax": furthest}
        shown = axes.imshow(values.reshape(-1, COLUMNS), **scale)
        figure.colorbar(shown, ax=axes, shrink=0.8)
        axes.set(title=f"{name}: {title}", xticks=[], yticks=[])
        _frame(axes, found["dedicated"])
    return png(figure)


def _frame(axes: Any, neurons: list[int]) -> None:
    from matplotlib.patches import Rectangle

    for neuron in neurons:
        row, column = divmod(neuron, COLUMNS)
        axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor=FRAME, linewidth=1.4))
