"""Quantised operators of ONNX Runtime's own domain, com.microsoft, which its quantiser writes in the QOperator format.

Source: docs/ContribOperators.md of ONNX Runtime. Each is computed on the real values that its integers stand for, and
its result is quantised again; ONNX Runtime may round some values to the next integer instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ._matrix import multiply
from ._quantisation import dequantised, quantised
from ._registry import OPERATORS, RUNTIME_OPERATORS, Node, Result, operator


@operator("QLinearAdd", table=RUNTIME_OPERATORS)
def _add(node: Node, *inputs: Any) -> Tensor:
    return _of_two(node, torch.add, *inputs)


@operator("QLinearMul", table=RUNTIME_OPERATORS)
def _multiply(node: Node, *inputs: Any) -> Tensor:
    return _of_two(node, torch.mul, *inputs)


@operator("QLinearSigmoid", table=RUNTIME_OPERATORS)
def _sigmoid(node: Node, *inputs: Any) -> Tensor:
    return _of_one(node, "Sigmoid", *inputs)


@operator("QLinearLeakyRelu", table=RUNTIME_OPERATORS)
def _leaky_relu(node: Node, *inputs: Any) -> Tensor:
    return _of_one(node, "LeakyRelu", *inputs)


@operator("QLinearSoftmax", table=RUNTIME_OPERATORS)
def _softmax(node: Node, *inputs: Any) -> Tensor:
    # The standard operator's opset is an attribute here, as the axis has meant two things.
    return _of_one(replace(node, opset=node.integer("opset", node.opset)), "Softmax", *inputs)


@operator("QLinearAveragePool", table=RUNTIME_OPERATORS)
def _average_pool(node: Node, *inputs: Any) -> Tensor:
    return _of_one(_channels_first(node), "AveragePool", *inputs)


@operator("QLinearGlobalAveragePool", table=RUNTIME_OPERATORS)
def _global_average_pool(node: Node, *inputs: Any) -> Tensor:
    return _of_one(_channels_first(node), "GlobalAveragePool", *inputs)


@operator("QLinearConcat", table=RUNTIME_OPERATORS)
def _concat(node: Node, scale: Tensor, zero_point: Tensor, *parts: Tensor) -> Tensor:
    triples = zip(parts[::3], parts[1::3], parts[2::3], strict=True)
    values = [dequantised(node, value, part_scale, part_zero) for value, part_scale, part_zero in triples]
    result = torch.cat(values, dim=node.integer("axis", 0))
    return _quantised(node, result, scale, zero_point)


@operator("QGemm", table=RUNTIME_OPERATORS)
def _gemm(
    node: Node,
    left: Tensor,
    left_scale: Tensor,
    left_zero: Tensor | None,
    right: Tensor,
    right_scale: Tensor,
    right_zero: Tensor | None,
    addend: Tensor | None = None,
    scale: Tensor | None = None,
    zero_point: Tensor | None = None,
) -> Tensor:
    transposed = bool(node.integer("transB", 0))
    left_real = dequantised(node, left, left_scale, left_zero)
    right_real = dequantised(node, right, right_scale, right_zero, axis=0 if transposed else 1)
    left_real = left_real.T if node.integer("transA", 0) else left_real
    alpha = node.real("alpha", 1.0)
    result = multiply(node, left_real, right_real.T if transposed else right_real) * alpha
    if addend is not None:
        result = result + addend.to(result.dtype) * (alpha * left_scale * right_scale)
    return result if scale is None else _quantised(node, result, scale, zero_point)


def _of_two(
    node: Node,
    function: Callable[[Tensor, Tensor], Tensor],
    left: Tensor,
    left_scale: Tensor,
    left_zero: Tensor | None,
    right: Tensor,
    right_scale: Tensor,
    right_zero: Tensor | None,
    scale: Tensor,
    zero_point: Tensor | None = None,
) -> Tensor:
    left_real = dequantised(node, left, left_scale, left_zero)
    right_real = dequantised(node, right, right_scale, right_zero)
    return _quantised(node, function(left_real, right_real), scale, zero_point)


def _of_one(
    node: Node,
    name: str,
    value: Tensor,
    value_scale: Tensor,
    value_zero: Tensor | None,
    scale: Tensor,
    zero_point: Tensor | None = None,
) -> Tensor:
    """Apply the standard operator ``name``, with this node's attributes, to the real values."""
    result: Result = OPERATORS[name].function(node, dequantised(node, value, value_scale, value_zero))
    if isinstance(result, tuple):
        raise node.unsupported("several results")
    return _quantised(node, result, scale, zero_point)


def _quantised(node: Node, value: Tensor, scale: Tensor, zero_point: Tensor | None) -> Tensor:
    return quantised(node, value, scale, zero_point, torch.uint8 if zero_point is None else zero_point.dtype)


def _channels_first(node: Node) -> Node:
    if node.integer("channels_last", 0):
        raise node.unsupported("channels in the last dimension")
    return node
