"""Operators that act on each element alone: activations, arithmetic, comparisons, logic and type changes."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import reduce

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ._constants import torch_type
from ._registry import MAXIMUM_ELEMENTS, Node, limited, operator, straight_through

_UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "Abs": torch.abs,
    "Acos": torch.acos,
    "Asin": torch.asin,
    "Atan": torch.atan,
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "Cosh": torch.cosh,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "HardSwish": functional.hardswish,
    "Identity": lambda value: value,
    "IsNaN": torch.isnan,
    "Log": torch.log,
    "Mish": functional.mish,
    "Neg": torch.neg,
    "Not": torch.logical_not,
    "Reciprocal": torch.reciprocal,
    "Relu": torch.relu,
    "Sigmoid": torch.sigmoid,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Sinh": torch.sinh,
    "Softplus": functional.softplus,
    "Softsign": functional.softsign,
    "Sqrt": torch.sqrt,
    "Tan": torch.tan,
    "Tanh": torch.tanh,
}

_BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Add": torch.add,
    "And": torch.logical_and,
    "Equal": torch.eq,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "Mul": torch.mul,
    "Or": torch.logical_or,
    "Sub": torch.sub,
    "Xor": torch.logical_xor,
}

_VARIADIC: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Max": torch.maximum,
    "Min": torch.minimum,
    "Sum": torch.add,
}


def _register_unary(name: str, function: Callable[[Tensor], Tensor]) -> None:
    @operator(name)
    def unary(_node: Node, value: Tensor) -> Tensor:
        return function(value)


def _register_binary(name: str, function: Callable[[Tensor, Tensor], Tensor]) -> None:
    @operator(name)
    def binary(node: Node, left: Tensor, right: Tensor) -> Tensor:
        limit_broadcast(node, left, right)
        return function(left, right)


def _register_variadic(name: str, function: Callable[[Tensor, Tensor], Tensor]) -> None:
    @operator(name)
    def variadic(node: Node, *values: Tensor) -> Tensor:
        limit_broadcast(node, *values)
        return reduce(function, values)


for _name, _unary in _UNARY.items():
    _register_unary(_name, _unary)
for _name, _binary in _BINARY.items():
    _register_binary(_name, _binary)
for _name, _variadic in _VARIADIC.items():
    _register_variadic(_name, _variadic)


def limit_broadcast(node: Node, *values: Tensor) -> None:
    """Refuse a broadcast whose result is over the limit although each operand is below it."""
    largest = max(value.numel() for value in values)
    # The product bounds the result: the exact shape is only worked out where it could matter.
    if math.prod(max(value.numel(), 1) for value in values) > MAXIMUM_ELEMENTS:
        shape = np.broadcast_shapes(*(tuple(value.shape) for value in values))
        if math.prod(shape) > largest:
            limited(node, shape)


@operator("Mean")
def _mean(node: Node, *values: Tensor) -> Tensor:
    limit_broadcast(node, *values)
    return reduce(torch.add, values) / len(values)


@operator("Div")
def _div(node: Node, left: Tensor, right: Tensor) -> Tensor:
    limit_broadcast(node, left, right)
    if left.is_floating_point() or right.is_floating_point():
        return left / right
    return torch.div(left, right, rounding_mode="trunc")


@operator("Mod")
def _mod(node: Node, left: Tensor, right: Tensor) -> Tensor:
    limit_broadcast(node, left, right)
    return torch.fmod(left, right) if node.integer("fmod", 0) else torch.remainder(left, right)


@operator("Pow")
def _pow(node: Node, base: Tensor, exponent: Tensor) -> Tensor:
    limit_broadcast(node, base, exponent)
    return torch.pow(base, exponent).to(base.dtype)


@operator("Where")
def _where(node: Node, condition: Tensor, chosen: Tensor, other: Tensor) -> Tensor:
    limit_broadcast(node, condition, chosen, other)
    return torch.where(condition.bool(), chosen, other)


@operator("Round")
def _round(node: Node, value: Tensor) -> Tensor:
    rounded = torch.round(value)
    return straight_through(value, rounded) if node.soft else rounded


@operator("IsInf")
def _is_infinite(node: Node, value: Tensor) -> Tensor:
    found = torch.zeros_like(value, dtype=torch.bool)
    if node.integer("detect_positive", 1):
        found = found | torch.isposinf(value)
    if node.integer("detect_negative", 1):
        found = found | torch.isneginf(value)
    return found


@operator("Clip", host_inputs=(1, 2))
def _clip(node: Node, value: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    lowest = node.real("min", -math.inf) if low is None else low.item()
    highest = node.real("max", math.inf) if high is None else high.item()
    if lowest != -math.inf:
        value = value.clamp(min=lowest)
    return value if highest == math.inf else value.clamp(max=highest)


@operator("LeakyRelu")
def _leaky_relu(node: Node, value: Tensor) -> Tensor:
    return functional.leaky_relu(value, node.real("alpha", 0.01))


@operator("PRelu")
def _parametric_relu(node: Node, value: Tensor, slope: Tensor) -> Tensor:
    limit_broadcast(node, value, slope)
    return torch.where(value < 0, value * slope, value)


@operator("Elu")
def _elu(node: Node, value: Tensor) -> Tensor:
    return functional.elu(value, node.real("alpha", 1.0))


@operator("Selu")
def _selu(node: Node, value: Tensor) -> Tensor:
    alpha = node.real("alpha", 1.67326319217681884765625)
    return node.real("gamma", 1.05070102214813232421875) * functional.elu(value, alpha)


@operator("Celu")
def _celu(node: Node, value: Tensor) -> Tensor:
    return functional.celu(value, node.real("alpha", 1.0))


@operator("ThresholdedRelu")
def _thresholded_relu(node: Node, value: Tensor) -> Tensor:
    return torch.where(value > node.real("alpha", 1.0), value, torch.zeros_like(value))


@operator("HardSigmoid")
def _hard_sigmoid(node: Node, value: Tensor) -> Tensor:
    return (value * node.real("alpha", 0.2) + node.real("beta", 0.5)).clamp(0.0, 1.0)


@operator("Gelu")
def _gelu(node: Node, value: Tensor) -> Tensor:
    return functional.gelu(value, approximate=node.text("approximate", "none"))


@operator("Swish")
def _swish(node: Node, value: Tensor) -> Tensor:
    return value * torch.sigmoid(value * node.real("alpha", 1.0))


@operator("Dropout", host_inputs=(1, 2))
def _dropout(
    node: Node, value: Tensor, _ratio: Tensor | None = None, training: Tensor | None = None
) -> Tensor | tuple[Tensor, Tensor]:
    if training is not None and bool(training.item()):
        raise node.unsupported("training mode")
    return value if node.outputs == 1 else (value, torch.ones_like(value, dtype=torch.bool))


@operator("Cast")
def _cast(node: Node, value: Tensor) -> Tensor:
    return _convert(node, value, torch_type(node.integer("to", 1)))


@operator("CastLike")
def _cast_like(node: Node, value: Tensor, model: Tensor) -> Tensor:
    return _convert(node, value, model.dtype)


def _convert(node: Node, value: Tensor, dtype: torch.dtype) -> Tensor:
    to_integer = not dtype.is_floating_point and dtype != torch.bool
    if node.soft and value.is_floating_point() and to_integer:
        return straight_through(value, torch.trunc(value))
    return value.to(dtype)
