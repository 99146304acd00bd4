"""Resize and Upsample: each axis by itself, as a gather (nearest) or a small dense matrix (linear, cubic)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ._registry import Node, limited, numbers, operator, positive_axis


@dataclass(frozen=True)
class _Axis:
    """One axis to be resized: its lengths before and after, and the scale that maps coordinates."""

    dim: int
    before: int
    after: int
    scale: float


@operator("Upsample", host_inputs=(1,))
def _upsample(node: Node, value: Tensor, scales: Tensor | None = None) -> Tensor:
    factors = node.reals("scales") if scales is None else [float(entry) for entry in scales.tolist()]
    return _resize_all(node, value, _axes_from_scales(node, value, list(range(value.dim())), factors or []))


@operator("Resize", host_inputs=(1, 2, 3))
def _resize(
    node: Node, value: Tensor, second: Tensor | None = None, third: Tensor | None = None, sizes: Tensor | None = None
) -> Tensor:
    # Opset 10 has (X, scales); from 11 on it is (X, roi, scales, sizes).
    scales = second if node.opset < 11 else third
    dims = [positive_axis(node, axis, value.dim()) for axis in node.integers("axes") or range(value.dim())]
    if sizes is not None and sizes.numel():
        return _resize_all(node, value, _axes_from_sizes(node, value, dims, numbers(sizes)))
    factors = [] if scales is None else [float(entry) for entry in scales.tolist()]
    return _resize_all(node, value, _axes_from_scales(node, value, dims, factors))


def _axes_from_scales(node: Node, value: Tensor, dims: list[int], factors: list[float]) -> list[_Axis]:
    if len(factors) != len(dims) or not all(math.isfinite(factor) and factor > 0 for factor in factors):
        raise node.malformed("scales", f"{len(dims)} positive numbers", factors)
    return [
        _Axis(dim, value.shape[dim], math.floor(value.shape[dim] * factor), factor)
        for dim, factor in zip(dims, factors, strict=True)
    ]


def _axes_from_sizes(node: Node, value: Tensor, dims: list[int], sizes: list[int]) -> list[_Axis]:
    if len(sizes) != len(dims) or min(sizes) < 1:
        raise node.malformed("sizes", f"{len(dims)} positive integers", sizes)
    before = [value.shape[dim] for dim in dims]
    factors = [size / length for size, length in zip(sizes, before, strict=True)]
    policy = node.text("keep_aspect_ratio_policy", "stretch")
    if policy != "stretch":
        factor = min(factors) if policy == "not_larger" else max(factors)
        factors = [factor] * len(dims)
        sizes = [math.floor(length * factor + 0.5) for length in before]
    return [_Axis(*entry) for entry in zip(dims, before, sizes, factors, strict=True)]


def _resize_all(node: Node, value: Tensor, axes: list[_Axis]) -> Tensor:
    shape = list(value.shape)
    for axis in axes:
        shape[axis.dim] = axis.after
    limited(node, shape)
    for axis in axes:
        if axis.before != axis.after or axis.scale != 1.0:
            value = _resize_axis(node, value, axis)
    return value


def _resize_axis(node: Node, value: Tensor, axis: _Axis) -> Tensor:
    positions = _positions(node, axis)
    if node.text("mode", "nearest") == "nearest":
        nearest = torch.from_numpy(_nearest(node, positions, axis))
        return value.index_select(axis.dim, nearest.to(value.device))
    matrix = torch.from_numpy(_weights(node, positions, axis)).to(value.device, value.dtype)
    return torch.matmul(value.movedim(axis.dim, -1), matrix.T).movedim(-1, axis.dim)


def _positions(node: Node, axis: _Axis) -> np.ndarray:
    """Return where each new pixel lies in the original's coordinates, float64 of length ``axis.after``."""
    new = np.arange(axis.after, dtype=np.float64)
    before, after, scale = axis.before, axis.after, axis.scale
    mode = node.text("coordinate_transformation_mode", "half_pixel") if node.opset >= 11 else "asymmetric"
    if mode == "half_pixel":
        return (new + 0.5) / scale - 0.5
    if mode == "pytorch_half_pixel":
        return (new + 0.5) / scale - 0.5 if after > 1 else np.zeros_like(new)
    if mode == "half_pixel_symmetric":
        adjustment = after / (scale * before)
        return before / 2 * (1 - adjustment) + (new + 0.5) / scale - 0.5
    if mode == "asymmetric":
        return new / scale
    if mode == "tf_half_pixel_for_nn":
        return (new + 0.5) / scale
    if mode == "align_corners":
        return new * (before - 1) / (after - 1) if after > 1 else np.zeros_like(new)
    raise node.unsupported(f"the coordinate transformation {mode!r}")


def _nearest(node: Node, positions: np.ndarray, axis: _Axis) -> np.ndarray:
    rounded: np.ndarray
    if node.opset < 11:  # no nearest_mode yet: ONNX Runtime rounds up where the image shrinks
        rounded = np.ceil(positions) if axis.scale < 1 else np.floor(positions)
    else:
        mode = node.text("nearest_mode", "round_prefer_floor")
        if mode not in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"):
            raise node.malformed("nearest_mode", "a known rounding", mode)
        rounded = {
            "round_prefer_floor": np.ceil(positions - 0.5),
            "round_prefer_ceil": np.floor(positions + 0.5),
            "floor": np.floor(positions),
            "ceil": np.ceil(positions),
        }[mode]
    nearest: np.ndarray = np.clip(rounded, 0, axis.before - 1).astype(np.int64)
    return nearest


def _weights(node: Node, positions: np.ndarray, axis: _Axis) -> np.ndarray:
    """Return the float64 matrix (after, before) that interpolates one axis."""
    limited(node, [axis.after, axis.before])
    mode = node.text("mode", "nearest")
    if mode not in ("linear", "bilinear", "cubic"):
        raise node.unsupported(f"the mode {mode!r}")
    # Antialiasing widens the filter when the image shrinks.
    stretch = max(1.0 / axis.scale, 1.0) if node.integer("antialias", 0) else 1.0
    radius = 2 if mode == "cubic" else 1
    reach = math.ceil(radius * stretch)
    limited(node, [axis.after, 2 * reach + 1])
    taps = np.floor(positions)[:, None] + np.arange(-reach + 1, reach + 1)
    distances = np.abs(positions[:, None] - taps) / stretch
    if mode == "cubic":
        weights = _cubic(distances, node.real("cubic_coeff_a", -0.75))
    else:
        weights = np.clip(1.0 - distances, 0.0, None)
    if node.integer("exclude_outside", 0):
        weights = np.where((taps >= 0) & (taps < axis.before), weights, 0.0)
    if node.integer("exclude_outside", 0) or node.integer("antialias", 0):
        weights = weights / weights.sum(1, keepdims=True)
    matrix = np.zeros((axis.after, axis.before))
    columns = np.clip(taps, 0, axis.before - 1).astype(np.int64)
    np.add.at(matrix, (np.arange(axis.after)[:, None], columns), weights)
    return matrix


def _cubic(distance: np.ndarray, a: float) -> np.ndarray:
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.asarray(np.where(distance <= 1, near, np.where(distance < 2, far, 0.0)))
