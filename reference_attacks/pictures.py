"""Figures and images as PNG bytes; figures are drawn without a display and without a global state."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from matplotlib.figure import Figure


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of ``width`` by ``height`` inches."""
    # A Figure of its own, not pyplot's: pyplot keeps every figure in a global list and picks a display.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def png(figure: Figure, *, dots_per_inch: int = 120) -> bytes:
    """The figure as PNG: the same figure gives the same bytes with the same version of matplotlib."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dots_per_inch, metadata={"Software": None})
    return buffer.getvalue()


def image_png(image: torch.Tensor) -> bytes:
    """A uint8 image ``(C, H, W)``, grey or RGB, as PNG: nothing of it is lost."""
    from PIL import Image

    array = image.permute(1, 2, 0).contiguous().numpy()
    buffer = io.BytesIO()
    Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array).save(buffer, format="PNG")
    return buffer.getvalue()
