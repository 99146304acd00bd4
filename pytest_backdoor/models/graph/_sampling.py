"""GridSample, by which spatial transformers turn and shift images."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import grid_sample

from pytest_backdoor.errors import NotAssessableError

from ._registry import Node, limited, operator

# Opset 20 renamed two modes.
_MODES = {"bilinear": "bilinear", "linear": "bilinear", "nearest": "nearest", "bicubic": "bicubic", "cubic": "bicubic"}
_PADDINGS = ("zeros", "border", "reflection")


@operator("GridSample")
def _grid_sample(node: Node, images: Tensor, grid: Tensor) -> Tensor:
    mode, padding = node.text("mode", "bilinear"), node.text("padding_mode", "zeros")
    volumes = images.dim() == 5
    if mode not in _MODES or (volumes and _MODES[mode] == "bicubic"):
        raise NotAssessableError(f"{node} samples in the mode {mode!r}, for which there is no differentiable form.")
    if padding not in _PADDINGS:
        raise NotAssessableError(f"{node} has the padding mode {padding!r}, for which there is no differentiable form.")
    if images.dim() not in (4, 5) or grid.dim() != images.dim() or grid.shape[-1] != images.dim() - 2:
        raise NotAssessableError(
            f"{node} samples values of shape {list(images.shape)} at a grid of shape {list(grid.shape)}; only images "
            "and volumes have a differentiable form."
        )
    limited(node, [*images.shape[:2], *grid.shape[1:-1]])
    aligned = bool(node.integer("align_corners", 0))
    return grid_sample(images, grid.to(images.dtype), _MODES[mode], padding, align_corners=aligned)
