"""Pooling over windows and over whole images."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from ._registry import Node, operator
from ._windows import Windows, pad_spatial, read_windows

_MAX: dict[int, Callable[..., Tensor]] = {
    1: functional.max_pool1d,
    2: functional.max_pool2d,
    3: functional.max_pool3d,
}
_AVERAGE: dict[int, Callable[..., Tensor]] = {
    1: functional.avg_pool1d,
    2: functional.avg_pool2d,
    3: functional.avg_pool3d,
}


@operator("MaxPool")
def _max_pool(node: Node, value: Tensor) -> Tensor:
    if node.outputs > 1:
        raise node.unsupported("the indices of the maxima")
    windows, overhang = _read(node, value)
    numeric = value if value.is_floating_point() else value.double()
    if _plain(windows, overhang):
        result = _MAX[len(windows.kernel)](numeric, windows.kernel, windows.strides, windows.begin, windows.dilations)
    else:
        end = [pad + more for pad, more in zip(windows.end, overhang, strict=True)]
        padded = pad_spatial(node, numeric, windows.begin, end, -math.inf)
        zeros = (0,) * len(windows.kernel)
        result = _MAX[len(windows.kernel)](padded, windows.kernel, windows.strides, zeros, windows.dilations)
    return result.to(value.dtype)


@operator("AveragePool")
def _average_pool(node: Node, value: Tensor) -> Tensor:
    windows, overhang = _read(node, value)
    count_pads = bool(node.integer("count_include_pad", 0))
    if _plain(windows, overhang) and max(windows.dilations) == 1:
        pool = _AVERAGE[len(windows.kernel)]
        return pool(value, windows.kernel, windows.strides, windows.begin, False, count_pads)
    inside = value.new_ones((1, 1, *value.shape[2:]))
    if count_pads:
        inside = pad_spatial(node, inside, windows.begin, windows.end, 1.0)
        counted = replace(windows, begin=(0,) * len(windows.kernel), end=(0,) * len(windows.kernel))
    else:
        counted = windows
    counts = _window_sums(node, inside, counted, overhang)
    return _window_sums(node, value, windows, overhang) / counts


@operator("LpPool")
def _lp_pool(node: Node, value: Tensor) -> Tensor:
    windows, overhang = _read(node, value)
    power = node.integer("p", 2)
    return _window_sums(node, value.abs() ** power, windows, overhang) ** (1.0 / power)


@operator("GlobalAveragePool")
def _global_average_pool(_node: Node, value: Tensor) -> Tensor:
    return value.mean(dim=tuple(range(2, value.dim())), keepdim=True)


@operator("GlobalMaxPool")
def _global_max_pool(_node: Node, value: Tensor) -> Tensor:
    return value.amax(dim=tuple(range(2, value.dim())), keepdim=True)


def _read(node: Node, value: Tensor) -> tuple[Windows, list[int]]:
    """Return the windows and, per dimension, how far ceil_mode's last window reaches beyond the pads."""
    rank = value.dim() - 2
    if rank not in _MAX:
        raise node.unsupported(f"an input of {value.dim()} dimensions")
    windows = read_windows(node, value.shape[2:], node.integers("kernel_shape") or [])
    if not node.integer("ceil_mode", 0):
        return windows, [0] * rank
    overhang = []
    for index, length in enumerate(value.shape[2:]):
        padded = length + windows.begin[index] + windows.end[index]
        stride, extent = windows.strides[index], windows.extents[index]
        last = -(-(padded - extent) // stride)
        # A window that would start in the pads at the end does not count.
        if last * stride >= length + windows.begin[index]:
            last -= 1
        overhang.append(max(last * stride + extent - padded, 0))
    return windows, overhang


def _plain(windows: Windows, overhang: Sequence[int]) -> bool:
    """Say whether torch's own pooling computes these windows."""
    symmetric = windows.begin == windows.end and not any(overhang)
    return symmetric and all(2 * pad <= size for pad, size in zip(windows.begin, windows.kernel, strict=True))


def _window_sums(node: Node, value: Tensor, windows: Windows, overhang: Sequence[int]) -> Tensor:
    """Sum over each window, with zeros outside the image: (N, C, ...) to (N, C, ...windows)."""
    end = [pad + more for pad, more in zip(windows.end, overhang, strict=True)]
    sums = pad_spatial(node, value, windows.begin, end, 0.0)
    for index, extent in enumerate(windows.extents):
        # A sum over a box is separable, so one dimension after the other keeps the intermediate small.
        unfolded = sums.unfold(2 + index, extent, windows.strides[index])
        sums = torch.sum(unfolded[..., :: windows.dilations[index]], dim=-1)
    return sums
