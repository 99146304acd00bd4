"""RoiAlign, by which object detectors look at one box after the other."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ._registry import Node, limited, operator

_MODES = ("half_pixel", "output_half_pixel")


@dataclass(frozen=True)
class _Side:
    """One side of all boxes: where they start and how long a bin is, float ``(n,)``, in pixels of the feature map.

    ``bins``: into how many it is divided. ``samples``: points in each bin, whole numbers ``(n,)``. ``length``: of the
    feature map.
    """

    start: Tensor
    bin_length: Tensor
    bins: int
    samples: Tensor
    length: int


@operator("RoiAlign")
def _roi_align(node: Node, features: Tensor, boxes: Tensor, batch_indices: Tensor) -> Tensor:
    """Average the features at evenly spread points of each bin of each box, bilinearly interpolated.

    ``features``: (N, C, H, W). ``boxes``: (n, 4), x1, y1, x2, y2. ``batch_indices``: (n,). Result: (n, C, h, w). Points
    more than a pixel outside of the map count as 0. A point's weights are the product of those along each side, so
    that the average is a product of three matrices.
    """
    if node.text("mode", "avg") != "avg":
        raise node.unsupported(f"the mode {node.text('mode', 'avg')!r}")
    if features.dim() != 4 or boxes.dim() != 2 or boxes.shape[1] != 4 or batch_indices.shape != boxes.shape[:1]:
        raise node.unsupported(f"boxes of shape {list(boxes.shape)} on features of shape {list(features.shape)}")
    boxes = boxes.to(features.dtype)
    rows, columns = (_side(node, features, boxes, axis) for axis in (1, 0))
    limited(node, [len(boxes), features.shape[1], rows.bins, rows.length, columns.bins])
    down, across = _weights(node, rows), _weights(node, columns)
    owners = batch_indices.to(torch.int64)
    if owners.numel() and not 0 <= int(owners.min()) <= int(owners.max()) < len(features):
        raise node.unsupported(f"a box on an image outside of a batch of {len(features)}")
    if len(features) == 1:
        return _averages(features, down, across)
    parts = [torch.empty(0, features.shape[1], rows.bins, columns.bins, dtype=features.dtype, device=features.device)]
    order = [torch.empty(0, dtype=torch.int64, device=owners.device)]
    for image in torch.unique(owners).tolist():
        own = (owners == image).nonzero()[:, 0]
        parts.append(_averages(features[image : image + 1], down[own], across[own]))
        order.append(own)
    return torch.cat(parts)[torch.cat(order).argsort()]


def _averages(features: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """``features``: (1, C, H, W). ``down``: (n, h, H). ``across``: (n, w, W). Result: (n, C, h, w)."""
    return down[:, None] @ features @ across[:, None].transpose(-1, -2)


def _side(node: Node, features: Tensor, boxes: Tensor, axis: int) -> _Side:
    """The side of the boxes along x (``axis`` 0) or y (1)."""
    # The mode came with opset 16, which made half_pixel the default; before, boxes were not moved.
    mode = node.text("coordinate_transformation_mode", _MODES[0] if node.opset >= 16 else _MODES[1])
    if mode not in _MODES:
        raise node.malformed("coordinate_transformation_mode", " or ".join(_MODES), mode)
    scale, shift = node.real("spatial_scale", 1.0), 0.5 if mode == "half_pixel" else 0.0
    start, end = boxes[:, axis] * scale - shift, boxes[:, axis + 2] * scale - shift
    size = end - start if mode == "half_pixel" else (end - start).clamp(min=1)
    bins = node.integer("output_height" if axis else "output_width", 1)
    ratio = node.integer("sampling_ratio", 0)
    if bins < 1 or ratio < 0:
        raise node.malformed("output_height, output_width or sampling_ratio", "positive", (bins, ratio))
    samples = torch.full_like(size, ratio) if ratio else (size / bins).detach().ceil().clamp(min=0)
    return _Side(start, size / bins, bins, samples, features.shape[2 if axis else 3])


def _weights(node: Node, side: _Side) -> Tensor:
    """How much each row of the feature map counts in each bin, (n, bins, length)."""
    most = int(side.samples.max()) if side.samples.numel() else 1
    limited(node, [len(side.start), side.bins, max(most, 1)])
    limited(node, [len(side.start), side.bins, side.length])
    numbers = torch.arange(max(most, 1), device=side.start.device)
    samples = side.samples.clamp(min=1)[:, None, None]
    bins = torch.arange(side.bins, device=side.start.device)[None, :, None]
    places = side.start[:, None, None] + side.bin_length[:, None, None] * (bins + (numbers + 0.5) / samples)
    counted = (places >= -1) & (places <= side.length) & (numbers < side.samples[:, None, None])
    places = places.clamp(min=0)
    low = places.detach().floor().clamp(max=side.length - 1)
    share = torch.where(low >= side.length - 1, 0.0, places - low)
    weights = torch.zeros(len(side.start), side.bins, side.length, dtype=places.dtype, device=places.device)
    weights = weights.scatter_add(2, low.long(), (1 - share) * counted / samples)
    return weights.scatter_add(2, (low.long() + 1).clamp(max=side.length - 1), share * counted / samples)
