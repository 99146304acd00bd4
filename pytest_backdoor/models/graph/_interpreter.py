"""Running a plan: operator after operator, constants folded once, values freed at their last use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeAlias

import torch

from pytest_backdoor.errors import BackdoorScanError, NotAssessableError

from ._plan import Plan, Step, with_frees
from ._registry import MAXIMUM_ELEMENTS

Inputs: TypeAlias = list[torch.Tensor | None]
BeforeStep: TypeAlias = Callable[[int, Step, Inputs], Inputs]
AfterStep: TypeAlias = Callable[[int, Step, Inputs, tuple[torch.Tensor, ...]], None]


def fold_constants(plan: Plan) -> Plan:
    """Run the steps that depend on constants alone, once, and return the plan that is left."""
    constants = dict(plan.constants)
    remaining = []
    for step in plan.steps:
        if all(name in constants for name in step.inputs if name):
            with torch.no_grad():
                results = run_step(step, _look_up(step, constants), samples=1)
            constants.update(_named(step, results))
        else:
            remaining.append(step)
    return with_frees(replace(plan, constants=constants, steps=tuple(remaining)))


def place_constants(plan: Plan, device: torch.device) -> Plan:
    """Move the constants that meet pixels to the device; those read as Python numbers stay on the CPU."""
    moved = {
        name
        for step in plan.steps
        for index, name in enumerate(step.inputs)
        if index not in step.operator.host_inputs and step.node.soft
    } | set(plan.outputs)
    placed = {name: tensor.to(device) if name in moved else tensor for name, tensor in plan.constants.items()}
    return replace(plan, constants=placed)


def run_plan(
    plan: Plan,
    values: Mapping[str, torch.Tensor],
    *,
    before: BeforeStep | None = None,
    after: AfterStep | None = None,
) -> tuple[torch.Tensor, ...]:
    """Run a plan on named inputs and return its outputs.

    The hooks see each step's position and inputs; ``before`` may replace the inputs. Raises NotAssessableError when
    an operator cannot be computed or a result grows beyond the limit for this number of samples.
    """
    known = {**plan.constants, **values}
    samples = max((value.shape[0] for value in values.values() if value.dim()), default=1)
    for index, step in enumerate(plan.steps):
        inputs = _look_up(step, known)
        if before is not None:
            inputs = before(index, step, inputs)
        results = run_step(step, inputs, samples)
        if after is not None:
            after(index, step, inputs, results)
        known.update(_named(step, results))
        for name in step.frees:
            del known[name]
    return tuple(known[name] for name in plan.outputs)


def run_step(step: Step, inputs: Inputs, samples: int) -> tuple[torch.Tensor, ...]:
    """Call one operator; every failure becomes a NotAssessableError that names the node."""
    while inputs and inputs[-1] is None:
        inputs = inputs[:-1]
    try:
        result = step.operator.function(step.node, *_on_one_device(step, inputs))
    except (BackdoorScanError, torch.OutOfMemoryError):
        raise
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        NotImplementedError,
        TypeError,
        ValueError,
        RuntimeError,
    ) as error:
        shapes = [None if value is None else list(value.shape) for value in inputs]
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise NotAssessableError(
            f"{step.node} cannot be computed on inputs of shapes {shapes}: {reason}; check the model with "
            "onnx.checker.check_model and ONNX Runtime, and the stated input shape and layout"
        ) from error
    results = result if isinstance(result, tuple) else (result,)
    # Also what grows by little at each step, such as a doubling repeated, has to end.
    largest = max((value.numel() for value in results), default=0)
    if largest > MAXIMUM_ELEMENTS * max(samples, 1):
        raise NotAssessableError(f"{step.node} made a tensor of {largest} elements, more than the limit of this audit")
    return results


def _look_up(step: Step, known: Mapping[str, torch.Tensor]) -> Inputs:
    return [known[name] if name else None for name in step.inputs]


def _named(step: Step, results: tuple[torch.Tensor, ...]) -> dict[str, torch.Tensor]:
    if len(results) < len(step.outputs):
        raise step.node.unsupported(f"{len(step.outputs)} outputs")
    return {name: value for name, value in zip(step.outputs, results, strict=False) if name}


def _on_one_device(step: Step, inputs: Inputs) -> Inputs:
    movable = [index for index in range(len(inputs)) if index not in step.operator.host_inputs]
    devices = {value.device for index in movable if (value := inputs[index]) is not None}
    if len(devices) <= 1 and not _host_on_device(step, inputs):
        return inputs
    target = next((device for device in devices if device.type != "cpu"), torch.device("cpu"))
    return [
        value if value is None else value.to(target if index in movable else "cpu")
        for index, value in enumerate(inputs)
    ]


def _host_on_device(step: Step, inputs: Inputs) -> bool:
    hosts = (inputs[index] for index in step.operator.host_inputs if index < len(inputs))
    return any(value is not None and value.device.type != "cpu" for value in hosts)
