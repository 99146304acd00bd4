"""Running a graph that was exported for a fixed batch on any number of samples.

Such a graph may hold the batch in its constants, above all in the target shapes of Reshape. A reference run with the
graph's own batch notes the shapes; a run with more samples stretches the constant targets by the same factor. Whether
this is right is not guessed: it is compared once with running the graph batch by batch, which is always right and is
what remains when the two differ.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from pytest_backdoor.errors import NotAssessableError

from ._interpreter import Inputs, run_plan
from ._plan import Plan, Step
from ._registry import numbers


@dataclass(frozen=True)
class _Reference:
    """Shapes seen at one step of the reference run: of the first input, of the result, and the target stated."""

    before: tuple[int, ...]
    result: tuple[int, ...]
    target: list[int]


@dataclass
class FixedBatch:
    """Runs a plan whose input states a batch of ``batch`` samples on any number of samples."""

    plan: Plan
    batch: int
    _references: dict[tuple[int, ...], dict[int, _Reference] | None] = field(default_factory=dict)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Map (N, ...) images to the (N, ...) output."""
        if images.shape[0] == self.batch:
            return self._run(images, {})
        samples = images.shape[0]
        missing = -samples % self.batch
        if missing:
            images = torch.cat([images, images[-1:].expand(missing, *images.shape[1:])])
        references = self._verified_references(images)
        result = self._run_in_parts(images) if references is None else self._run(images, references)
        return result[:samples]

    def _verified_references(self, images: torch.Tensor) -> dict[int, _Reference] | None:
        """Return the references for images of this size, None where stretching them is wrong."""
        size = tuple(images.shape[1:])
        if size not in self._references:
            with torch.no_grad():
                probe = _noise_like(images, 3 * self.batch)
                references = self._trace(probe[: self.batch])
                self._references[size] = references if self._agrees(probe, references) else None
        return self._references[size]

    def _agrees(self, probe: torch.Tensor, references: dict[int, _Reference]) -> bool:
        expected = self._run_in_parts(probe)
        try:
            stretched = self._run(probe, references)
        except NotAssessableError:
            return False
        if stretched.shape != expected.shape:
            return False
        spread = (expected - expected.mean(0, keepdim=True)).abs().max()
        error = (stretched - expected).abs().max()
        # Where all samples give the same output the comparison shows nothing, and the slow way is the safe one.
        return bool(error <= 1e-3 * spread) and bool(spread > 0)

    def _trace(self, images: torch.Tensor) -> dict[int, _Reference]:
        references: dict[int, _Reference] = {}

        def note(index: int, step: Step, inputs: Inputs, results: tuple[torch.Tensor, ...]) -> None:
            target = _target(step, inputs)
            first = inputs[0] if inputs else None
            if target is not None and first is not None:
                references[index] = _Reference(tuple(first.shape), tuple(results[0].shape), numbers(target))

        run_plan(self.plan, {self.plan.inputs[0].name: images}, after=note)
        return references

    def _run(self, images: torch.Tensor, references: dict[int, _Reference]) -> torch.Tensor:
        def stretch(index: int, step: Step, inputs: Inputs) -> Inputs:
            if step.node.operator == "Concat":
                return _broadcast_batch(step, inputs)
            reference, target, first = references.get(index), _target(step, inputs), inputs[0] if inputs else None
            if reference is None or target is None or first is None or numbers(target) != reference.target:
                return inputs
            shape = _stretched(tuple(first.shape), reference)
            return inputs if shape is None else [*inputs[:-1], torch.tensor(shape, dtype=torch.int64)]

        hook = stretch if references else None
        return run_plan(self.plan, {self.plan.inputs[0].name: images}, before=hook)[0]

    def _run_in_parts(self, images: torch.Tensor) -> torch.Tensor:
        starts = range(0, images.shape[0], self.batch)
        return torch.cat([self._run(images[start : start + self.batch], {}) for start in starts])


def _target(step: Step, inputs: Inputs) -> torch.Tensor | None:
    """Return the input that states the shape of the result, where the step has one."""
    place = {"Reshape": 1, "Resize": 3, "Expand": 1}.get(step.node.operator)
    if place is None or len(inputs) != place + 1 or (step.node.operator == "Resize" and step.node.has("axes")):
        return None
    return inputs[place]


def _stretched(shape: tuple[int, ...], reference: _Reference) -> list[int] | None:
    """Return the result's shape for an input whose one axis is longer than in the reference; None to leave it."""
    changed = [axis for axis, pair in enumerate(zip(shape, reference.before, strict=True)) if pair[0] != pair[1]]
    if len(changed) != 1:
        return None
    longer, once = shape[changed[0]], reference.before[changed[0]]
    offset, leading = 1, 1
    for length in reference.before[: changed[0]]:
        offset *= length
    result = list(reference.result)
    for axis, length in enumerate(result):
        # The axis of the result that continues what lies before the longer axis takes the factor.
        if leading == offset or leading * length > offset:
            result[axis] = length * longer // once
            return result if length * longer % once == 0 else None
        leading *= length
    return None


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


def _noise_like(images: torch.Tensor, samples: int) -> torch.Tensor:
    """Return noise within the images' range; always the same noise."""
    low, high = float(images.min()), float(images.max())
    if not high > low:
        low, high = low - 0.5, high + 0.5
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand((samples, *images.shape[1:]), generator=generator)
    return (low + (high - low) * noise).to(images.device, images.dtype)
