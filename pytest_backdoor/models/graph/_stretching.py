"""Stretching the shapes that a graph states as constants from its own batch to a larger one."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TypeAlias

import torch

from ._interpreter import Inputs
from ._plan import Step
from ._registry import numbers


@dataclass(frozen=True)
class Reference:
    """Shapes seen at one step of the reference run: of the first input, of the result, and the target stated."""

    before: tuple[int, ...]
    result: tuple[int, ...]
    target: list[int]


References: TypeAlias = dict[int, Reference]
"""The references of a plan's steps, by position."""


def reference_of(step: Step, inputs: Inputs, results: tuple[torch.Tensor, ...]) -> Reference | None:
    """Return the shapes to remember of a step that states its result's shape; None for all other steps."""
    target, first = _target(step, inputs), inputs[0] if inputs else None
    if target is None or first is None:
        return None
    return Reference(tuple(first.shape), tuple(results[0].shape), numbers(target))


@dataclass
class Stretcher:
    """A hook for one run of a plan: replaces the constant targets that were right for the graph's own batch.

    Where a reshape merged the samples with what lies before them, (L, N, E) to (L * N, E), the length L is kept by
    the name of the result, so that a later reshape can take the samples out again.
    """

    references: References
    _outer: dict[str, int] = field(default_factory=dict)

    def __call__(self, index: int, step: Step, inputs: Inputs) -> Inputs:
        """Return the inputs with which the step is to run."""
        outer = max((self._outer.get(name, 1) for name in step.inputs), default=1)
        if step.node.operator == "Concat":
            inputs = _broadcast_batch(step, inputs)
        reference = self.references.get(index)
        if reference is not None:
            inputs, outer = self._stretch(step, inputs, reference, outer)
        if outer > 1:
            self._outer.update(dict.fromkeys(step.outputs, outer))
        return inputs

    def _stretch(self, step: Step, inputs: Inputs, reference: Reference, outer: int) -> tuple[Inputs, int]:
        first, target = inputs[0], _target(step, inputs)
        if first is None or target is None or numbers(target) != reference.target:
            return inputs, 1  # computed in the graph, for the real batch
        changed = [axis for axis, length in enumerate(reference.before) if first.shape[axis] != length]
        if len(changed) != 1:
            return inputs, outer
        longer, once = first.shape[changed[0]], reference.before[changed[0]]
        offset = math.prod(reference.before[: changed[0]]) * outer
        place = _place(reference.result, offset)
        if place is None or reference.result[place[0]] * longer % once:
            return inputs, outer
        result = list(reference.result)
        result[place[0]] = result[place[0]] * longer // once
        return [*inputs[:-1], torch.tensor(result, dtype=torch.int64)], place[1]


def _place(result: tuple[int, ...], offset: int) -> tuple[int, int] | None:
    """Find the samples in a reshaped result, where ``offset`` elements of the leading axes lie before them.

    Returns their axis and the length that lies before them within this axis.
    """
    leading = 1
    for axis, length in enumerate(result):
        if leading == offset and 0 < axis == len(result) - 1:
            # One sample fits before the last axis or behind the one before it: features rarely hold samples.
            return axis - 1, result[axis - 1]
        if leading == offset:
            return axis, 1
        if leading * length > offset:
            return (axis, offset // leading) if offset % leading == 0 else None
        leading *= length
    return None


def _target(step: Step, inputs: Inputs) -> torch.Tensor | None:
    """Return the input that states the shape of the result, where the step has one."""
    place = {"Reshape": 1, "Resize": 3, "Expand": 1}.get(step.node.operator)
    if place is None or len(inputs) != place + 1 or (step.node.operator == "Resize" and step.node.has("axes")):
        return None
    return inputs[place]


def _broadcast_batch(step: Step, inputs: Inputs) -> Inputs:
    """Repeat a constant of one sample, such as a class token, for all samples that it is joined with."""
    tensors = [value for value in inputs if value is not None]
    rank = tensors[0].dim()
    axis = step.node.integer("axis", 1) % max(rank, 1)
    if axis == 0 or any(value.dim() != rank for value in tensors):
        return inputs
    samples = max(value.shape[0] for value in tensors)
    return [
        value.expand(samples, *value.shape[1:]) if value is not None and value.shape[0] == 1 else value
        for value in inputs
    ]
