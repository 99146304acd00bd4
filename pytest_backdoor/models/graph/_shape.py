"""Operators that change a tensor's shape, or compute with shapes."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ._constants import tensor_from_array
from ._registry import Node, limited, numbers, operator, positive_axis


@operator("Shape")
def _shape(node: Node, value: Tensor) -> Tensor:
    shape = list(value.shape)
    return torch.tensor(shape[node.integer("start", 0) : node.integer("end", len(shape))], dtype=torch.int64)


@operator("Size")
def _size(_node: Node, value: Tensor) -> Tensor:
    return torch.tensor(value.numel(), dtype=torch.int64)


@operator("Flatten")
def _flatten(node: Node, value: Tensor) -> Tensor:
    axis = node.integer("axis", 1)
    if not -value.dim() <= axis <= value.dim():
        raise node.malformed("axis", f"an axis of a tensor with {value.dim()} dimensions", axis)
    axis = axis + value.dim() if axis < 0 else axis
    return value.reshape(math.prod(value.shape[:axis]), math.prod(value.shape[axis:]))


@operator("Reshape", host_inputs=(1,))
def _reshape(node: Node, value: Tensor, shape: Tensor) -> Tensor:
    target = numbers(shape)
    if not node.integer("allowzero", 0):
        target = [value.shape[index] if length == 0 else length for index, length in enumerate(target)]
    return value.reshape(target)


@operator("Transpose")
def _transpose(node: Node, value: Tensor) -> Tensor:
    return value.permute(node.integers("perm") or list(reversed(range(value.dim()))))


@operator("Squeeze", host_inputs=(1,))
def _squeeze(node: Node, value: Tensor, axes: Tensor | None = None) -> Tensor:
    listed = node.integers("axes") if axes is None else numbers(axes)
    if listed is None:
        return value.squeeze()
    dims = {positive_axis(node, axis, value.dim()) for axis in listed}
    if any(value.shape[dim] != 1 for dim in dims):
        raise node.malformed("axes", f"axes of length one of the shape {list(value.shape)}", listed)
    return value.reshape([length for dim, length in enumerate(value.shape) if dim not in dims])


@operator("Unsqueeze", host_inputs=(1,))
def _unsqueeze(node: Node, value: Tensor, axes: Tensor | None = None) -> Tensor:
    listed = (node.integers("axes") or []) if axes is None else numbers(axes)
    rank = value.dim() + len(listed)
    for axis in sorted(positive_axis(node, axis, rank) for axis in listed):
        value = value.unsqueeze(axis)
    return value


@operator("Concat")
def _concat(node: Node, *values: Tensor) -> Tensor:
    return torch.cat(values, positive_axis(node, node.integer("axis", 1), values[0].dim()))


@operator("Split", host_inputs=(1,))
def _split(node: Node, value: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, ...]:
    axis = positive_axis(node, node.integer("axis", 0), value.dim())
    sizes = node.integers("split") if lengths is None else numbers(lengths)
    if sizes is None:
        total = value.shape[axis]
        size = -(-total // node.outputs)
        sizes = [max(min(size, total - index * size), 0) for index in range(node.outputs)]
    if min(sizes, default=0) < 0 or sum(sizes) != value.shape[axis]:
        raise node.malformed("split", f"parts of an axis of length {value.shape[axis]}", sizes)
    starts = [sum(sizes[:index]) for index in range(len(sizes))]
    return tuple(value.narrow(axis, start, size) for start, size in zip(starts, sizes, strict=True))


@operator("Slice", host_inputs=(1, 2, 3, 4))
def _slice(
    node: Node,
    value: Tensor,
    starts: Tensor | None = None,
    ends: Tensor | None = None,
    axes: Tensor | None = None,
    steps: Tensor | None = None,
) -> Tensor:
    first = numbers(starts) if starts is not None else node.integers("starts") or []
    stop = numbers(ends) if ends is not None else node.integers("ends") or []
    dims = (numbers(axes) if axes is not None else node.integers("axes")) or list(range(len(first)))
    strides = numbers(steps) if steps is not None else [1] * len(first)
    for begin, end, axis, step in zip(first, stop, dims, strides, strict=True):
        value = _slice_axis(value, positive_axis(node, axis, value.dim()), slice(begin, end, step))
    return value


def _slice_axis(value: Tensor, axis: int, part: slice) -> Tensor:
    chosen = range(*part.indices(value.shape[axis]))
    if chosen.step > 0:
        return value[(slice(None),) * axis + (slice(chosen.start, chosen.stop, chosen.step),)]
    return value.index_select(axis, torch.tensor(list(chosen), dtype=torch.int64, device=value.device))


@operator("Expand", host_inputs=(1,))
def _expand(node: Node, value: Tensor, shape: Tensor) -> Tensor:
    target = np.broadcast_shapes(tuple(value.shape), tuple(numbers(shape)))
    limited(node, target)
    return value.expand(target)


@operator("Tile", host_inputs=(1,))
def _tile(node: Node, value: Tensor, repeats: Tensor) -> Tensor:
    times = numbers(repeats)
    limited(node, [length * count for length, count in zip(value.shape, times, strict=True)])
    return value.repeat(times)


@operator("Constant")
def _constant(node: Node) -> Tensor:
    value = node.tensor("value")
    if value is not None:
        return value
    if node.has("value_int") or node.has("value_ints"):
        return torch.tensor(node.integers("value_ints") or node.integer("value_int", 0), dtype=torch.int64)
    if node.has("value_float") or node.has("value_floats"):
        return torch.tensor(node.reals("value_floats") or node.real("value_float", 0.0), dtype=torch.float32)
    raise node.unsupported("a constant that is neither a tensor nor a number")


@operator("ConstantOfShape", host_inputs=(0,))
def _constant_of_shape(node: Node, shape: Tensor) -> Tensor:
    target = numbers(shape)
    limited(node, target)
    value = node.tensor("value")
    filling = torch.zeros(1) if value is None else value
    return filling.reshape(()).expand(target).clone()


@operator("Range", host_inputs=(0, 1, 2))
def _range(node: Node, start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    first, stop, step = (part.item() for part in (start, limit, delta))
    if step == 0 or not all(math.isfinite(part) for part in (first, stop, step)):
        raise node.malformed("delta", "a finite step other than zero", step)
    count = max(math.ceil((stop - first) / step), 0)
    limited(node, [count])
    return (torch.arange(count, dtype=torch.float64) * step + first).to(start.dtype)


@operator("Trilu", host_inputs=(1,))
def _triangle(node: Node, value: Tensor, diagonal: Tensor | None = None) -> Tensor:
    offset = 0 if diagonal is None else numbers(diagonal)[0]
    offset = max(min(offset, value.shape[-1]), -value.shape[-2])
    return value.triu(offset) if node.integer("upper", 1) else value.tril(offset)


@operator("EyeLike")
def _eye_like(node: Node, value: Tensor) -> Tensor:
    rows, columns = value.shape
    eye = torch.ones(rows, columns).triu(node.integer("k", 0)).tril(node.integer("k", 0))
    return tensor_from_array(eye.numpy(), value.dtype)


@operator("DepthToSpace")
def _depth_to_space(node: Node, value: Tensor) -> Tensor:
    block = _block_size(node)
    batch, channels, height, width = value.shape
    if node.text("mode", "DCR") == "DCR":
        parts = value.reshape(batch, block, block, channels // block**2, height, width).permute(0, 3, 4, 1, 5, 2)
    else:
        parts = value.reshape(batch, channels // block**2, block, block, height, width).permute(0, 1, 4, 2, 5, 3)
    return parts.reshape(batch, channels // block**2, height * block, width * block)


@operator("SpaceToDepth")
def _space_to_depth(node: Node, value: Tensor) -> Tensor:
    block = _block_size(node)
    batch, channels, height, width = value.shape
    parts = value.reshape(batch, channels, height // block, block, width // block, block)
    depth_first = node.text("mode", "DCR") == "DCR"
    parts = parts.permute(0, 3, 5, 1, 2, 4) if depth_first else parts.permute(0, 1, 3, 5, 2, 4)
    return parts.reshape(batch, channels * block**2, height // block, width // block)


def _block_size(node: Node) -> int:
    block = node.integer("blocksize", 0)
    if block < 1:
        raise node.malformed("blocksize", "a positive integer", block)
    return block
