"""Gathering by index, and padding, which is gathering beyond the edges."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ._registry import Node, limited, numbers, operator, positive_axis


@operator("Gather", host_inputs=(1,))
def _gather(node: Node, value: Tensor, indices: Tensor) -> Tensor:
    axis = positive_axis(node, node.integer("axis", 0), value.dim())
    wrapped = _wrapped(node, indices, value.shape[axis])
    shape = [*value.shape[:axis], *wrapped.shape, *value.shape[axis + 1 :]]
    limited(node, shape)
    chosen = value.index_select(axis, wrapped.flatten().to(value.device))
    return chosen.reshape(shape)


@operator("GatherElements", host_inputs=(1,))
def _gather_elements(node: Node, value: Tensor, indices: Tensor) -> Tensor:
    axis = positive_axis(node, node.integer("axis", 0), value.dim())
    return value.gather(axis, _wrapped(node, indices, value.shape[axis]).to(value.device))


@operator("GatherND", host_inputs=(1,))
def _gather_nd(node: Node, value: Tensor, indices: Tensor) -> Tensor:
    if node.integer("batch_dims", 0):
        raise node.unsupported("batch dimensions")
    positions = [
        _wrapped(node, part, value.shape[axis]).to(value.device) for axis, part in enumerate(indices.unbind(-1))
    ]
    limited(node, [*indices.shape[:-1], *value.shape[len(positions) :]])
    return value[tuple(positions)]


@operator("ScatterND", host_inputs=(1,))
def _scatter_nd(node: Node, value: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    reduction = node.text("reduction", "none")
    if reduction not in ("none", "add"):
        raise node.unsupported(f"the reduction {reduction!r}")
    positions = tuple(
        _wrapped(node, part, value.shape[axis]).to(value.device) for axis, part in enumerate(indices.unbind(-1))
    )
    return value.index_put(positions, updates.to(value.dtype), accumulate=reduction == "add")


def _wrapped(node: Node, indices: Tensor, length: int) -> Tensor:
    """Return int64 indices in 0..length-1, negative ones counted from the end."""
    wrapped = indices.to(torch.int64)
    if wrapped.numel() and not -length <= int(wrapped.min()) <= int(wrapped.max()) < length:
        # Checked here since on a GPU an index out of range takes the whole process down.
        raise node.unsupported(f"an index outside of an axis of length {length}")
    return torch.where(wrapped < 0, wrapped + length, wrapped)


@operator("Pad", host_inputs=(1, 2, 3))
def _pad(
    node: Node,
    value: Tensor,
    pads: Tensor | None = None,
    constant: Tensor | None = None,
    axes: Tensor | None = None,
) -> Tensor:
    amounts = numbers(pads) if pads is not None else node.integers("pads") or []
    listed = range(value.dim()) if axes is None else numbers(axes)
    dims = [positive_axis(node, axis, value.dim()) for axis in listed]
    if len(amounts) != 2 * len(dims):
        raise node.malformed("pads", f"{2 * len(dims)} integers", amounts)
    begin, end = [0] * value.dim(), [0] * value.dim()
    for index, dim in enumerate(dims):
        begin[dim], end[dim] = amounts[index], amounts[index + len(dims)]
    limited(node, [length + b + e for length, b, e in zip(value.shape, begin, end, strict=True)])
    mode = node.text("mode", "constant")
    if mode == "constant":
        filling = node.real("value", 0.0) if constant is None else constant.item()
        flat = [amount for pair in zip(reversed(begin), reversed(end), strict=True) for amount in pair]
        return functional.pad(value, flat, value=filling)
    for dim, (before, after) in enumerate(zip(begin, end, strict=True)):
        if before or after:
            source = _source_positions(node, mode, value.shape[dim], before, after)
            value = value.index_select(dim, source.to(value.device))
    return value


def _source_positions(node: Node, mode: str, length: int, before: int, after: int) -> Tensor:
    """Say for each position of a padded axis which position of the original fills it."""
    wanted = torch.arange(-before, length + after)
    if mode == "edge":
        return wanted.clamp(0, length - 1)
    if mode == "wrap":
        return wanted.remainder(length)
    if mode == "reflect":
        period = max(2 * (length - 1), 1)
        folded = wanted.remainder(period)
        return torch.minimum(folded, period - folded) if length > 1 else torch.zeros_like(wanted)
    raise node.malformed("mode", "constant, reflect, edge or wrap", mode)
