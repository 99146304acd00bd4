"""Normalisation layers at inference, and softmax."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ._registry import Node, Result, operator, positive_axis


@operator("BatchNormalization")
def _batch_normalisation(
    node: Node, value: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor
) -> Tensor:
    if node.integer("training_mode", 0) or node.outputs > 1:
        raise node.unsupported("training mode")
    if not node.integer("spatial", 1):
        raise node.unsupported("statistics per pixel (spatial=0)")
    return functional.batch_norm(value, mean, variance, scale, bias, False, 0.0, node.real("epsilon", 1e-5))


@operator("InstanceNormalization")
def _instance_normalisation(node: Node, value: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    normal = _standardise(value, range(2, value.dim()), node.real("epsilon", 1e-5))
    return _per_channel(normal, scale, bias)


@operator("GroupNormalization")
def _group_normalisation(node: Node, value: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    groups = node.integer("num_groups", 1)
    channels = value.shape[1]
    if groups < 1 or channels % groups:
        raise node.malformed("num_groups", f"a divisor of {channels} channels", groups)
    grouped = value.reshape(value.shape[0], groups, -1)
    normal = _standardise(grouped, (2,), node.real("epsilon", 1e-5)).reshape(value.shape)
    if node.opset < 21:  # scale and bias were per group before
        scale, bias = (part.repeat_interleave(channels // groups) for part in (scale, bias))
    return _per_channel(normal, scale, bias)


@operator("LayerNormalization")
def _layer_normalisation(node: Node, value: Tensor, scale: Tensor, bias: Tensor | None = None) -> Result:
    axis = positive_axis(node, node.integer("axis", -1), value.dim())
    epsilon = node.real("epsilon", 1e-5)
    normal = functional.layer_norm(value, value.shape[axis:], eps=epsilon) * scale
    result = normal if bias is None else normal + bias
    if node.outputs == 1:
        return result
    dims = tuple(range(axis, value.dim()))
    variance = value.var(dims, unbiased=False, keepdim=True)
    return (result, value.mean(dims, keepdim=True), torch.rsqrt(variance + epsilon))[: node.outputs]


@operator("RMSNormalization")
def _rms_normalisation(node: Node, value: Tensor, scale: Tensor) -> Tensor:
    axis = positive_axis(node, node.integer("axis", -1), value.dim())
    squares = value.square().mean(tuple(range(axis, value.dim())), keepdim=True)
    return value * torch.rsqrt(squares + node.real("epsilon", 1e-5)) * scale


@operator("MeanVarianceNormalization")
def _mean_variance_normalisation(node: Node, value: Tensor) -> Tensor:
    axes = node.integers("axes") or [0, 2, 3]
    if any(positive_axis(node, axis, value.dim()) == 0 for axis in axes):
        raise node.unsupported("statistics over the batch")
    return _standardise(value, axes, 1e-9)


@operator("LpNormalization")
def _lp_normalisation(node: Node, value: Tensor) -> Tensor:
    norm = value.norm(p=node.integer("p", 2), dim=node.integer("axis", -1), keepdim=True)
    return torch.where(norm == 0, torch.zeros_like(value), value / norm)


@operator("LRN")
def _local_response_normalisation(node: Node, value: Tensor) -> Tensor:
    size = node.integer("size", 1)
    if not 1 <= size <= 2 * value.shape[1] + 1:
        raise node.malformed("size", "a number of neighbouring channels", size)
    alpha, beta, bias = node.real("alpha", 1e-4), node.real("beta", 0.75), node.real("bias", 1.0)
    # By hand, because torch pads an even size on the other side.
    squares = value.square().movedim(1, -1)
    neighbours = functional.pad(squares, [(size - 1) // 2, size // 2]).unfold(-1, size, 1)
    return value / (bias + alpha / size * neighbours.sum(-1).movedim(-1, 1)) ** beta


@operator("Softmax")
def _softmax(node: Node, value: Tensor) -> Tensor:
    view, axis = _softmax_view(node, value)
    return view.softmax(axis).reshape(value.shape)


@operator("LogSoftmax")
def _log_softmax(node: Node, value: Tensor) -> Tensor:
    view, axis = _softmax_view(node, value)
    return view.log_softmax(axis).reshape(value.shape)


def _softmax_view(node: Node, value: Tensor) -> tuple[Tensor, int]:
    """Return what to normalise and along which axis: before opset 13 all dimensions from the axis on were one."""
    if node.opset >= 13:
        return value, positive_axis(node, node.integer("axis", -1), value.dim())
    axis = positive_axis(node, node.integer("axis", 1), value.dim())
    return value.reshape(math.prod(value.shape[:axis]), math.prod(value.shape[axis:])), 1


def _standardise(value: Tensor, dims: Sequence[int], epsilon: float) -> Tensor:
    variance, mean = torch.var_mean(value, tuple(dims), unbiased=False, keepdim=True)
    return (value - mean) * torch.rsqrt(variance + epsilon)


def _per_channel(normal: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    shape = (1, -1, *([1] * (normal.dim() - 2)))
    return normal * scale.reshape(shape) + bias.reshape(shape)
