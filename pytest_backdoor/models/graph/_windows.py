"""Padding arithmetic that convolutions and poolings share: strides, dilations, explicit and automatic pads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn import functional

from ._registry import Node, limited


@dataclass(frozen=True)
class Windows:
    """How windows slide over the spatial dimensions: one entry per dimension in each tuple."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]

    @property
    def extents(self) -> tuple[int, ...]:
        """Elements that a dilated window spans per dimension."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))


def per_dimension(node: Node, attribute: str, rank: int, default: int, least: int) -> tuple[int, ...]:
    """Read a list attribute with one integer per spatial dimension, each at least ``least``."""
    values = node.integers(attribute)
    if values is None:
        return (default,) * rank
    if len(values) != rank or min(values, default=least) < least:
        raise node.malformed(attribute, f"{rank} integers of at least {least}", values)
    return tuple(values)


def read_windows(node: Node, spatial: Sequence[int], kernel: Sequence[int]) -> Windows:
    """Resolve strides, dilations and pads (auto_pad included) for an input with these spatial lengths."""
    rank = len(spatial)
    if len(kernel) != rank or min(kernel, default=1) < 1:
        raise node.malformed("kernel_shape", f"{rank} positive integers", list(kernel))
    strides = per_dimension(node, "strides", rank, 1, 1)
    dilations = per_dimension(node, "dilations", rank, 1, 1)
    zeros = (0,) * rank
    unpadded = Windows(tuple(kernel), strides, dilations, zeros, zeros)
    begin, end = _pads(node, unpadded, spatial)
    return Windows(tuple(kernel), strides, dilations, begin, end)


def _pads(node: Node, windows: Windows, spatial: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    rank = len(spatial)
    mode = node.text("auto_pad", "NOTSET")
    if mode == "NOTSET":
        return explicit_pads(node, rank)
    if mode == "VALID":
        return (0,) * rank, (0,) * rank
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        raise node.malformed("auto_pad", "NOTSET, SAME_UPPER, SAME_LOWER or VALID", mode)
    totals = [
        max((-(-length // stride) - 1) * stride + extent - length, 0)
        for length, stride, extent in zip(spatial, windows.strides, windows.extents, strict=True)
    ]
    smaller, larger = tuple(total // 2 for total in totals), tuple(total - total // 2 for total in totals)
    return (smaller, larger) if mode == "SAME_UPPER" else (larger, smaller)


def explicit_pads(node: Node, rank: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Read the ``pads`` attribute as (begin, end), zeros when absent."""
    pads = node.integers("pads") or [0] * (2 * rank)
    if len(pads) != 2 * rank or min(pads, default=0) < 0:
        raise node.malformed("pads", f"{2 * rank} integers of at least 0", pads)
    return tuple(pads[:rank]), tuple(pads[rank:])


def pad_spatial(
    node: Node, value: torch.Tensor, begin: Sequence[int], end: Sequence[int], filling: float
) -> torch.Tensor:
    """Pad the spatial dimensions of an (N, C, ...) tensor with a constant; negative entries crop."""
    if not any(begin) and not any(end):
        return value
    padded = [length + b + e for length, b, e in zip(value.shape[2:], begin, end, strict=True)]
    limited(node, [*value.shape[1:2], *padded])
    flat = [amount for pair in zip(reversed(begin), reversed(end), strict=True) for amount in pair]
    return functional.pad(value, flat, value=filling)
