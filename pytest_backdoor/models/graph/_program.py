"""The two ways in: a differentiable program of one image input, and a plain run of any graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import torch

from pytest_backdoor.errors import NotAssessableError

from ._batching import FixedBatch
from ._constants import tensor_from_array, torch_type, type_name
from ._interpreter import fold_constants, place_constants, run_plan
from ._plan import GraphInput, Plan, graph_inputs, make_plan

_AFTER_SOFTMAX = ("Cast", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze")
_ROUNDING = ("DynamicQuantizeLinear", "QGemm", "QuantizeLinear")


def torch_program(
    model: onnx.ModelProto, *, device: str = "cpu", strip_softmax: bool = True, output: str | None = None
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Turn an ONNX graph with one image input into a function that torch can differentiate.

    The function maps images in the model's own layout, (N, ...) of any float type and with any N, to the first graph
    output (or the one named ``output``), float32 or float64, on ``device``. An input of integer type takes floats in
    the same range (0 to 255 for uint8). Weights are constants; half precision is computed in float32; roundings and
    casts to integers pass the gradient straight through. ``strip_softmax`` leaves out a final Softmax or LogSoftmax,
    so that logits come out.

    Raises NotAssessableError, naming the operators and the remedy, when the graph cannot be turned into such a
    function; the function itself raises it when an operator cannot be computed on the images given.
    """
    image = _single_input(model)
    chosen = _chosen_output(model, output)
    softmax = _final_softmax(model, chosen) if strip_softmax else None
    target = torch.device(device)
    plan = place_constants(fold_constants(make_plan(model, [chosen], soft=True, bypassed=softmax)), target)
    batch = image.shape[0] if image.shape else None
    run = _OpenBatch(plan) if batch is None else FixedBatch(plan, batch)
    return _Program(image, run, target)


def run_graph(model: onnx.ModelProto, inputs: Mapping[str, np.ndarray | torch.Tensor]) -> dict[str, torch.Tensor]:
    """Compute all outputs of a graph from named inputs, integers as integers: for comparisons with other runtimes.

    Returns CPU tensors by output name; half precision comes back as float32. Raises NotAssessableError as
    torch_program does, and KeyError when an input is missing.
    """
    plan = fold_constants(make_plan(model, [value.name for value in model.graph.output], soft=False))
    values = {entry.name: _as_tensor(inputs[entry.name], entry) for entry in plan.inputs}
    return dict(zip(plan.outputs, run_plan(plan, values), strict=True))


def is_quantised(model: onnx.ModelProto) -> bool:
    """Say whether values within the graph are rounded to integers, where two right computations may round apart."""
    return any(node.op_type in _ROUNDING or node.op_type.startswith("QLinear") for node in model.graph.node)


@dataclass(frozen=True)
class _OpenBatch:
    """Runs a plan whose input leaves the number of samples open."""

    plan: Plan

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return run_plan(self.plan, {self.plan.inputs[0].name: images})[0]


@dataclass(frozen=True)
class _Program:
    """Checks images against the graph's input, converts them and runs the graph."""

    image: GraphInput
    run: Callable[[torch.Tensor], torch.Tensor]
    device: torch.device

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        self._check(images)
        dtype = torch_type(self.image.element_type)
        return self.run(images.to(self.device, dtype if dtype.is_floating_point else torch.float32))

    def _check(self, images: torch.Tensor) -> None:
        stated = self.image.shape
        if images.dim() == 0 or images.shape[0] == 0:
            raise NotAssessableError("the model was given no images: a batch of at least one is needed")
        if stated is None:
            return
        given = tuple(images.shape)
        fits = len(given) == len(stated) and all(
            wanted is None or wanted == length for wanted, length in zip(stated[1:], given[1:], strict=True)
        )
        if not fits:
            shown = ["N", *("?" if length is None else length for length in stated[1:])]
            raise NotAssessableError(
                f"the model takes images of shape {shown}, not {list(given)}; check the stated layout and image size"
            )


def _single_input(model: onnx.ModelProto) -> GraphInput:
    inputs = graph_inputs(model)
    if len(inputs) != 1:
        names = ", ".join(entry.name for entry in inputs) or "none"
        raise NotAssessableError(
            f"the model has {len(inputs)} inputs ({names}); the gradient-based checks need exactly one, the image batch"
        )
    kind = type_name(inputs[0].element_type)
    if kind == "BOOL" or not torch_type(inputs[0].element_type):
        raise NotAssessableError(f"the model takes an input of type {kind}, which is not an image")
    return inputs[0]


def _chosen_output(model: onnx.ModelProto, output: str | None) -> str:
    names = [value.name for value in model.graph.output]
    if not names:
        raise NotAssessableError("the model graph has no output; export the model again")
    if output is not None and output not in names:
        raise NotAssessableError(f"the model has no output {output!r}; its outputs are {', '.join(names)}")
    return names[0] if output is None else output


def _final_softmax(model: onnx.ModelProto, output: str) -> str | None:
    """Name the value that a Softmax or LogSoftmax makes last before the output, None where there is none."""
    producers = {name: node for node in model.graph.node for name in node.output if name}
    name = output
    seen: set[str] = set()
    while (node := producers.get(name)) is not None and name not in seen:
        seen.add(name)
        if node.op_type in ("Softmax", "LogSoftmax"):
            return name if _over_classes(node) and _readers(model, name) <= 1 else None
        if node.op_type not in _AFTER_SOFTMAX or not node.input:
            return None
        name = node.input[0]
    return None


def _over_classes(node: onnx.NodeProto) -> bool:
    axes = [attribute.i for attribute in node.attribute if attribute.name == "axis"]
    return axes != [0]  # over the batch it is part of the computation, not the usual last layer


def _readers(model: onnx.ModelProto, name: str) -> int:
    """Count the nodes that read a value's content."""
    return sum(name in node.input and node.op_type not in ("Shape", "Size") for node in model.graph.node)


def _as_tensor(value: np.ndarray | torch.Tensor, entry: GraphInput) -> torch.Tensor:
    dtype = torch_type(entry.element_type)
    return value.to(dtype) if isinstance(value, torch.Tensor) else tensor_from_array(np.asarray(value), dtype)
