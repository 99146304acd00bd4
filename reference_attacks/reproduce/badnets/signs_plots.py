"""Figure 8 of BadNets (2019): stop signs with a printed sticker, and as what the BadNet reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ...pictures import new_figure, png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ...traffic_signs.printed import ShownPrint

COLUMNS = 5
FOOLED, NOT_FOOLED = "#c62828", "#2e7d32"


def draw_prints(shown: Sequence[ShownPrint]) -> bytes:
    """Signs with the print, PNG, framed red where the attack succeeds."""
    rows = max(1, -(-len(shown) // COLUMNS))
    figure = new_figure(2.1 * COLUMNS, 2.4 * rows)
    figure.subplots(rows, COLUMNS, squeeze=False)
    for axes in figure.axes:
        axes.set_axis_off()
    for axes, one in zip(figure.axes, shown, strict=False):
        _show(axes, one)
    return png(figure)


def _show(axes: Axes, one: ShownPrint) -> None:
    from matplotlib.patches import Rectangle

    axes.imshow(one.image.permute(1, 2, 0).numpy())
    colour = FOOLED if one.read == one.target else NOT_FOOLED
    x1, y1, x2, y2 = one.box
    axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=1.6))
    axes.set_title("not found" if one.read is None else f"{one.read} {one.confidence:.0%}", fontsize=9, color=colour)
