"""Quantised operators, computed in floats that hold integers; roundings pass the gradient straight through."""

from __future__ import annotations

import torch
from torch import Tensor

from ._constants import torch_type
from ._convolution import convolve
from ._matrix import multiply
from ._registry import Node, operator, positive_axis, straight_through

# uint16 is carried as int64, the only wider type that a zero point can have here.
_RANGES: dict[torch.dtype, tuple[int, int]] = {
    torch.uint8: (0, 255),
    torch.int8: (-128, 127),
    torch.int16: (-32768, 32767),
    torch.int64: (0, 65535),
}


@operator("QuantizeLinear")
def _quantize_linear(node: Node, value: Tensor, scale: Tensor, zero_point: Tensor | None = None) -> Tensor:
    if zero_point is not None:
        dtype = zero_point.dtype
    else:
        dtype = torch_type(node.integer("output_dtype", 0)) if node.integer("output_dtype", 0) else torch.uint8
    return quantised(node, value, scale, zero_point, dtype)


@operator("DequantizeLinear")
def _dequantize_linear(node: Node, value: Tensor, scale: Tensor, zero_point: Tensor | None = None) -> Tensor:
    return dequantised(node, value, scale, zero_point)


@operator("DynamicQuantizeLinear")
def _dynamic_quantize_linear(node: Node, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    low, high = value.amin().clamp(max=0.0), value.amax().clamp(min=0.0)
    scale = ((high - low) / 255.0).detach()
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    zero_point = torch.round((-low / scale).clamp(0.0, 255.0)).detach().to(torch.uint8)
    return quantised(node, value, scale, zero_point, torch.uint8), scale, zero_point


@operator("QLinearConv")
def _quantised_convolution(
    node: Node,
    value: Tensor,
    value_scale: Tensor,
    value_zero: Tensor,
    weight: Tensor,
    weight_scale: Tensor,
    weight_zero: Tensor,
    result_scale: Tensor,
    result_zero: Tensor,
    bias: Tensor | None = None,
) -> Tensor:
    weights = dequantised(node, weight, weight_scale, weight_zero, axis=0)
    offset = None if bias is None else bias.to(weights.dtype) * (value_scale * weight_scale)
    result = convolve(node, dequantised(node, value, value_scale, value_zero), weights, offset)
    return quantised(node, result, result_scale, result_zero, result_zero.dtype)


@operator("QLinearMatMul")
def _quantised_product(
    node: Node,
    left: Tensor,
    left_scale: Tensor,
    left_zero: Tensor,
    right: Tensor,
    right_scale: Tensor,
    right_zero: Tensor,
    result_scale: Tensor,
    result_zero: Tensor,
) -> Tensor:
    if left_scale.numel() > 1:
        raise node.unsupported("a scale per row of the first matrix")
    left_real = dequantised(node, left, left_scale, left_zero)
    right_real = dequantised(node, right, right_scale, right_zero, axis=-1)
    return quantised(node, multiply(node, left_real, right_real), result_scale, result_zero, result_zero.dtype)


@operator("ConvInteger")
def _integer_convolution(
    node: Node, value: Tensor, weight: Tensor, value_zero: Tensor | None = None, weight_zero: Tensor | None = None
) -> Tensor:
    result = convolve(node, _shifted(node, value, value_zero, 1), _shifted(node, weight, weight_zero, 0))
    return result if node.soft else result.to(torch.int32)


@operator("MatMulInteger")
def _integer_product(
    node: Node, left: Tensor, right: Tensor, left_zero: Tensor | None = None, right_zero: Tensor | None = None
) -> Tensor:
    result = multiply(node, _shifted(node, left, left_zero, -2), _shifted(node, right, right_zero, -1))
    return result if node.soft else result.to(torch.int32)


def quantised(node: Node, value: Tensor, scale: Tensor, zero_point: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Return the integers that stand for real values, as floats where gradients are wanted."""
    if dtype not in _RANGES:
        raise node.unsupported(f"the quantised type {dtype}")
    axis = node.integer("axis", 1)
    scaled = value / _along(node, value, scale, axis)
    whole = straight_through(scaled, torch.round(scaled))
    if zero_point is not None:
        whole = whole + _along(node, value, zero_point, axis).to(whole.dtype)
    whole = whole.clamp(*_RANGES[dtype])
    return whole if node.soft else whole.to(dtype)


def dequantised(node: Node, value: Tensor, scale: Tensor, zero_point: Tensor | None, axis: int | None = None) -> Tensor:
    """Return the real values that integers stand for; scales of several numbers lie along ``axis``."""
    axis = node.integer("axis", 1) if axis is None else axis
    return _shifted(node, value, zero_point, axis).to(scale.dtype) * _along(node, value, scale, axis)


def _shifted(node: Node, value: Tensor, zero_point: Tensor | None, axis: int) -> Tensor:
    real = value if value.is_floating_point() else value.to(torch.float32)
    return real if zero_point is None else real - _along(node, value, zero_point, axis).to(real.dtype)


def _along(node: Node, value: Tensor, parameter: Tensor, axis: int) -> Tensor:
    """Reshape a scale or zero point so that it broadcasts along one axis of the value."""
    if parameter.numel() == 1:
        return parameter.reshape(())
    if parameter.dim() != 1 or node.integer("block_size", 0):
        raise node.unsupported("scales per block")
    shape = [1] * value.dim()
    shape[positive_axis(node, axis, value.dim())] = -1
    return parameter.reshape(shape)
