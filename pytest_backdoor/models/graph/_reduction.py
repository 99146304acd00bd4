"""Reductions over axes, running sums and the position of extremes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ._registry import Node, numbers, operator, positive_axis


def _product(value: Tensor, dims: list[int], keep: bool) -> Tensor:
    for dim in sorted(dims, reverse=True):
        value = value.prod(dim, keepdim=keep)
    return value


def _log_sum_exp(value: Tensor, dims: list[int], keep: bool) -> Tensor:
    return torch.logsumexp(value, dims, keepdim=keep)


_REDUCTIONS: dict[str, Callable[[Tensor, list[int], bool], Tensor]] = {
    "ReduceL1": lambda value, dims, keep: value.abs().sum(dims, keepdim=keep),
    "ReduceL2": lambda value, dims, keep: torch.linalg.vector_norm(value, 2, dims, keepdim=keep),
    "ReduceLogSum": lambda value, dims, keep: value.sum(dims, keepdim=keep).log(),
    "ReduceLogSumExp": _log_sum_exp,
    "ReduceMax": lambda value, dims, keep: value.amax(dims, keepdim=keep),
    "ReduceMean": lambda value, dims, keep: value.mean(dims, keepdim=keep),
    "ReduceMin": lambda value, dims, keep: value.amin(dims, keepdim=keep),
    "ReduceProd": _product,
    "ReduceSum": lambda value, dims, keep: value.sum(dims, keepdim=keep),
    "ReduceSumSquare": lambda value, dims, keep: value.square().sum(dims, keepdim=keep),
}


def _register_reduction(name: str, function: Callable[[Tensor, list[int], bool], Tensor]) -> None:
    @operator(name, host_inputs=(1,))
    def reduction(node: Node, value: Tensor, axes: Tensor | None = None) -> Tensor:
        listed = node.integers("axes") if axes is None else numbers(axes)
        if not listed and node.integer("noop_with_empty_axes", 0):
            # The elementwise part (square, absolute value, ...) still applies: reduce over an axis of length one.
            return function(value.unsqueeze(-1), [value.dim()], False)
        dims = [positive_axis(node, axis, value.dim()) for axis in listed or range(value.dim())]
        if not dims:
            return function(value.unsqueeze(-1), [0], False)
        return function(value, dims, bool(node.integer("keepdims", 1))).to(value.dtype)


for _name, _function in _REDUCTIONS.items():
    _register_reduction(_name, _function)


@operator("ArgMax")
def _arg_max(node: Node, value: Tensor) -> Tensor:
    return _position(node, value, torch.argmax)


@operator("ArgMin")
def _arg_min(node: Node, value: Tensor) -> Tensor:
    return _position(node, value, torch.argmin)


def _position(node: Node, value: Tensor, find: Callable[..., Tensor]) -> Tensor:
    axis = positive_axis(node, node.integer("axis", 0), value.dim())
    keep = bool(node.integer("keepdims", 1))
    if not node.integer("select_last_index", 0):
        return find(value, dim=axis, keepdim=keep)
    return value.shape[axis] - 1 - find(value.flip(axis), dim=axis, keepdim=keep)


@operator("CumSum", host_inputs=(1,))
def _cumulative_sum(node: Node, value: Tensor, axis: Tensor) -> Tensor:
    dim = positive_axis(node, numbers(axis)[0], value.dim())
    backwards = bool(node.integer("reverse", 0))
    value = value.flip(dim) if backwards else value
    sums = value.cumsum(dim).to(value.dtype)
    if node.integer("exclusive", 0):
        sums = sums - value
    return sums.flip(dim) if backwards else sums


@operator("TopK", host_inputs=(1,))
def _top_k(node: Node, value: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    axis = positive_axis(node, node.integer("axis", -1), value.dim())
    # A stable sort, as torch.topk takes any of several equal values and ONNX the first.
    found = torch.sort(value, dim=axis, descending=bool(node.integer("largest", 1)), stable=True)
    chosen = numbers(count)[0]
    return found.values.narrow(axis, 0, chosen), found.indices.narrow(axis, 0, chosen)
