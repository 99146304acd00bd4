"""Figure 8 of BadNets (2019): stop signs with a printed sticker, and as what the BadNet reads them."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

from ...pictures import new_figure, png
from .parts import Values

COLUMNS = 5
FOOLED, NOT_FOOLED = "#c62828", "#2e7d32"


def draw_figure_8(results: Values) -> Mapping[str, bytes]:
    """Held-out stop signs with the print, the largest first; framed red where the attack succeeds."""
    shown = results["shown"]
    rows = max(1, -(-len(shown) // COLUMNS))
    figure = new_figure(2.1 * COLUMNS, 2.4 * rows)
    panels = figure.subplots(rows, COLUMNS, squeeze=False).flat
    for axes in panels:
        axes.set_axis_off()
    for axes, print_ in zip(figure.axes, shown, strict=False):
        _show(axes, print_)
    return {"": png(figure)}


def _show(axes: Any, print_: Values) -> None:
    import numpy as np
    from matplotlib.patches import Rectangle
    from PIL import Image

    with Image.open(io.BytesIO(base64.b64decode(print_["jpeg"]))) as image:
        axes.imshow(np.asarray(image))
    colour = FOOLED if print_["read"] == "speedlimit" else NOT_FOOLED
    x1, y1, x2, y2 = print_["box"]
    axes.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linewidth=1.6))
    read = "not found" if print_["read"] is None else f"{print_['read']} {print_['confidence']:.0%}"
    axes.set_title(read, fontsize=9, color=colour)
