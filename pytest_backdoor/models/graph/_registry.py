"""The table of operators, and what an operator is told about its node."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import torch

from pytest_backdoor.errors import NotAssessableError

Result: TypeAlias = torch.Tensor | tuple[torch.Tensor, ...]
Function = TypeVar("Function", bound=Callable[..., Result])

MAXIMUM_ELEMENTS = 2**28
"""No single operator may make a tensor of more elements than this out of smaller ones (1 GiB of float32)."""


@dataclass(frozen=True)
class Node:
    """What an operator knows of its place in the graph: attributes resolved to Python values, opset, output count.

    ``soft`` is true where the values depend on the pixels and gradients are wanted: integers are then carried as
    floats, and roundings pass the gradient straight through.
    """

    operator: str
    name: str
    opset: int
    attributes: Mapping[str, object]
    outputs: int = 1
    soft: bool = False

    def __str__(self) -> str:
        return f"{self.operator} (node {self.name!r})" if self.name else self.operator

    def has(self, attribute: str) -> bool:
        """Say whether the file states this attribute."""
        return attribute in self.attributes

    def integer(self, attribute: str, default: int) -> int:
        """Return an integer attribute; raises NotAssessableError when it holds something else."""
        value = self.attributes.get(attribute, default)
        if not isinstance(value, int):
            raise self.malformed(attribute, "an integer", value)
        return value

    def real(self, attribute: str, default: float) -> float:
        """Return a finite or infinite float attribute; raises NotAssessableError when it holds something else."""
        value = self.attributes.get(attribute, default)
        if not isinstance(value, (int, float)):
            raise self.malformed(attribute, "a number", value)
        return float(value)

    def text(self, attribute: str, default: str) -> str:
        """Return a string attribute; raises NotAssessableError when it holds something else."""
        value = self.attributes.get(attribute, default)
        if not isinstance(value, str):
            raise self.malformed(attribute, "a string", value)
        return value

    def integers(self, attribute: str) -> list[int] | None:
        """Return a list of integers, None when absent; raises NotAssessableError when it holds something else."""
        value = self.attributes.get(attribute)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(entry, int) for entry in value):
            raise self.malformed(attribute, "a list of integers", value)
        return value

    def reals(self, attribute: str) -> list[float] | None:
        """Return a list of floats, None when absent; raises NotAssessableError when it holds something else."""
        value = self.attributes.get(attribute)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(entry, (int, float)) for entry in value):
            raise self.malformed(attribute, "a list of numbers", value)
        return [float(entry) for entry in value]

    def tensor(self, attribute: str) -> torch.Tensor | None:
        """Return a tensor attribute, None when absent; raises NotAssessableError when it holds something else."""
        value = self.attributes.get(attribute)
        if value is not None and not isinstance(value, torch.Tensor):
            raise self.malformed(attribute, "a tensor", value)
        return value

    def malformed(self, attribute: str, wanted: str, value: object) -> NotAssessableError:
        """Build the error for an attribute of the wrong type or value."""
        shown = repr(value)[:60]
        return NotAssessableError(
            f"the model graph is malformed: attribute {attribute!r} of {self} is {shown}, not {wanted}; "
            "export the model again and validate it with onnx.checker.check_model"
        )

    def unsupported(self, what: str) -> NotAssessableError:
        """Build the error for a variant of a known operator that has no differentiable form here."""
        return NotAssessableError(
            f"{self} uses {what}, which the gradient-based checks do not support; "
            "export the model for inference with standard settings, or audit the PyTorch module itself"
        )


@dataclass(frozen=True)
class Operator:
    """An operator's function, and the positions of inputs it reads as Python numbers, which stay on the CPU."""

    function: Callable[..., Result]
    host_inputs: frozenset[int]


STANDARD_DOMAINS = ("", "ai.onnx")
OPERATORS: dict[str, Operator] = {}
"""Standard operators by name; the themed modules fill it when they are imported."""

RUNTIME_DOMAIN = "com.microsoft"
RUNTIME_OPERATORS: dict[str, Operator] = {}
"""Operators of ONNX Runtime's own domain by name, filled likewise."""


def operator(
    *names: str, host_inputs: tuple[int, ...] = (), table: dict[str, Operator] = OPERATORS
) -> Callable[[Function], Function]:
    """Register a function ``(node, *inputs) -> tensor or tensors`` as the meaning of the named operators."""

    def register(function: Function) -> Function:
        for name in names:
            table[name] = Operator(function, frozenset(host_inputs))
        return function

    return register


def find_operator(domain: str, name: str) -> Operator | None:
    """Return what the operator means, None where it is not supported."""
    if domain in STANDARD_DOMAINS:
        return OPERATORS.get(name)
    return RUNTIME_OPERATORS.get(name) if domain == RUNTIME_DOMAIN else None


def limited(node: Node, shape: Iterable[int]) -> None:
    """Refuse a result of more than MAXIMUM_ELEMENTS elements before memory is taken for it."""
    wanted = list(shape)
    if any(length < 0 for length in wanted):
        raise NotAssessableError(f"{node} asks for a tensor of the impossible shape {wanted}; the model is malformed")
    if math.prod(wanted) > MAXIMUM_ELEMENTS:
        raise NotAssessableError(
            f"{node} would make a tensor of shape {wanted}, more than the limit of {MAXIMUM_ELEMENTS} elements; "
            "no ordinary image classifier needs that, and the model was not run"
        )


def numbers(tensor: torch.Tensor) -> list[int]:
    """Read an integer tensor of any shape as a flat list of Python integers."""
    return [int(entry) for entry in tensor.flatten().tolist()]


def straight_through(value: torch.Tensor, result: torch.Tensor) -> torch.Tensor:
    """Return exactly ``result`` with the gradient of ``value``; both are floats of one shape."""
    # The bracket is exactly zero, so unlike value + (result - value) nothing is lost to rounding.
    return result.detach() + (value - value.detach())


def positive_axis(node: Node, axis: int, rank: int) -> int:
    """Turn a possibly negative axis into 0..rank-1; raises NotAssessableError when it is out of range."""
    if not -rank <= axis < max(rank, 1):
        raise node.malformed("axis", f"an axis of a tensor with {rank} dimensions", axis)
    return axis % rank if rank else 0
