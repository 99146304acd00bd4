"""From an ONNX graph to a plan: which operators run in which order on which constants."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import onnx
import torch
from onnx import AttributeProto

from pytest_backdoor.errors import NotAssessableError

from . import (  # noqa: F401  (imported for the operators they register)
    _convolution,
    _elementwise,
    _indexing,
    _matrix,
    _normalisation,
    _pooling,
    _quantisation,
    _reduction,
    _resize,
    _roi_align,
    _runtime,
    _sampling,
    _shape,
)
from ._constants import attribute_values, tensor_from_proto
from ._registry import OPERATORS, STANDARD_DOMAINS, Node, Operator, find_operator

OLDEST_OPSET, NEWEST_OPSET = 7, 28
_CONTROL_FLOW = ("If", "Loop", "Scan", "SequenceMap")
_SHAPE_OPERATORS = ("Shape", "Size")


@dataclass(frozen=True)
class Step:
    """One operator call: names of its inputs ("" where absent) and outputs, and the values nobody needs after it."""

    node: Node
    operator: Operator
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    frees: tuple[str, ...] = ()


@dataclass(frozen=True)
class GraphInput:
    """A graph input: its ONNX element type and its lengths, None where the file leaves them open."""

    name: str
    element_type: int
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True)
class Plan:
    """What the interpreter runs: steps in order, constants on the CPU, the inputs fed and the outputs returned."""

    inputs: tuple[GraphInput, ...]
    outputs: tuple[str, ...]
    constants: dict[str, torch.Tensor]
    steps: tuple[Step, ...]


def make_plan(model: onnx.ModelProto, outputs: Iterable[str], *, soft: bool, bypassed: str | None = None) -> Plan:
    """Plan the computation of the named outputs; nothing else of the graph is looked at or run.

    ``soft`` asks for useful gradients through integers and roundings; the operator that makes the value ``bypassed``
    hands its input on instead. Raises NotAssessableError when the graph holds
    unsupported operators (all are named), is malformed or not in order.
    """
    wanted = tuple(outputs)
    opset = _opset(model)
    constants = _initializers(model.graph, wanted)
    inputs = graph_inputs(model)
    nodes = _needed_nodes(model.graph, wanted)
    _refuse_unsupported(model, nodes)
    _check_order(nodes, {entry.name for entry in inputs} | set(constants), wanted)
    tracked = _depends_on_pixels(nodes, {entry.name for entry in inputs}) if soft else set()
    steps = [_step(node, opset, any(name in tracked for name in node.input)) for node in nodes]
    steps = [_identity(step) if bypassed in step.outputs else step for step in steps]
    return Plan(inputs, wanted, constants, _with_frees(steps, set(wanted)))


def graph_inputs(model: onnx.ModelProto) -> tuple[GraphInput, ...]:
    """Return the inputs that a caller has to feed: those without an initializer."""
    initialised = {tensor.name for tensor in model.graph.initializer}
    return tuple(_graph_input(value) for value in model.graph.input if value.name not in initialised)


def with_frees(plan: Plan) -> Plan:
    """Return the plan with its frees worked out anew, after steps were taken out, and unused constants dropped."""
    steps = _with_frees(plan.steps, set(plan.outputs))
    used = {name for step in steps for name in step.inputs} | set(plan.outputs)
    constants = {name: tensor for name, tensor in plan.constants.items() if name in used}
    return replace(plan, steps=steps, constants=constants)


def _opset(model: onnx.ModelProto) -> int:
    versions = [entry.version for entry in model.opset_import if entry.domain in STANDARD_DOMAINS]
    if len(set(versions)) != 1:
        raise NotAssessableError(
            "the model file does not state one version of the standard operators (opset_import); "
            "export the model again and validate it with onnx.checker.check_model"
        )
    if not OLDEST_OPSET <= versions[0] <= NEWEST_OPSET:
        raise NotAssessableError(
            f"the model uses opset {versions[0]}; gradients are supported from opset {OLDEST_OPSET} to "
            f"{NEWEST_OPSET}: convert the model with onnx.version_converter.convert_version"
        )
    return int(versions[0])


def _graph_input(value: onnx.ValueInfoProto) -> GraphInput:
    tensor = value.type.tensor_type
    if not value.type.HasField("tensor_type"):
        raise NotAssessableError(
            f"input {value.name!r} of the model is not a tensor; only image tensors can be audited"
        )
    if not tensor.HasField("shape"):
        return GraphInput(value.name, tensor.elem_type, None)
    lengths = tuple(entry.dim_value if entry.HasField("dim_value") else None for entry in tensor.shape.dim)
    return GraphInput(value.name, tensor.elem_type, tuple(None if not n or n < 1 else n for n in lengths))


def _initializers(graph: onnx.GraphProto, wanted: tuple[str, ...]) -> dict[str, torch.Tensor]:
    if graph.sparse_initializer:
        raise NotAssessableError("the model stores sparse weights; export it with dense ones")
    used = {name for node in graph.node for name in node.input} | set(wanted)
    return {tensor.name: tensor_from_proto(tensor) for tensor in graph.initializer if tensor.name in used}


def _needed_nodes(graph: onnx.GraphProto, wanted: tuple[str, ...]) -> list[onnx.NodeProto]:
    needed = set(wanted)
    nodes = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            nodes.append(node)
            needed.update(node.input)
            for attribute in node.attribute:
                needed.update(_names_in_subgraphs(attribute))
    return nodes[::-1]


def _names_in_subgraphs(attribute: AttributeProto) -> set[str]:
    return {name for graph in (attribute.g, *attribute.graphs) for node in graph.node for name in node.input}


def _refuse_unsupported(model: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> None:
    # A file may define functions of its own, even under a standard operator's name: those would not be what runs here.
    functions = {(_domain(function.domain), function.name) for function in model.functions}
    unsupported: dict[str, str] = {}
    for node in nodes:
        domain = _domain(node.domain)
        if find_operator(domain, node.op_type) is not None and (domain, node.op_type) not in functions:
            continue
        kind = f"{domain}::{node.op_type}"
        if (domain, node.op_type) in functions:
            kind += " (a function defined in the file)"
        elif node.op_type in _CONTROL_FLOW:
            kind += " (control flow)"
        unsupported.setdefault(kind, node.name)
    if not unsupported:
        return
    first, *others = unsupported
    place = f" (node {unsupported[first]!r})" if unsupported[first] else ""
    more = f", and also {', '.join(others)}" if others else ""
    raise NotAssessableError(
        f"gradients with respect to the image are not supported for operator {first}{place}{more}; export the model "
        "for inference with standard ONNX operators only (without control flow, custom domains or a runtime's own "
        "graph optimisation), or audit the PyTorch module itself"
    )


def _domain(domain: str) -> str:
    return domain or "ai.onnx"


def _check_order(nodes: list[onnx.NodeProto], known: set[str], wanted: tuple[str, ...]) -> None:
    defined = set(known)
    for node in nodes:
        missing = [name for name in node.input if name and name not in defined]
        repeated = [name for name in node.output if name and name in defined]
        if missing or repeated:
            problem = f"reads {missing[0]!r} before it exists" if missing else f"defines {repeated[0]!r} a second time"
            raise NotAssessableError(
                f"the model graph is malformed: {node.op_type} (node {node.name!r}) {problem}; export the model "
                "again and validate it with onnx.checker.check_model"
            )
        defined.update(name for name in node.output if name)
    absent = [name for name in wanted if name not in defined]
    if absent:
        raise NotAssessableError(f"the model graph never computes its output {absent[0]!r}; export the model again")


def _depends_on_pixels(nodes: list[onnx.NodeProto], inputs: set[str]) -> set[str]:
    """Name the values that depend on the inputs' content, not merely on their shape."""
    tracked = set(inputs)
    for node in nodes:
        if node.op_type not in _SHAPE_OPERATORS and tracked.intersection(node.input):
            tracked.update(name for name in node.output if name)
    return tracked


def _step(node: onnx.NodeProto, opset: int, soft: bool) -> Step:
    outputs = list(node.output)
    while outputs and not outputs[-1]:
        outputs.pop()
    described = Node(node.op_type, node.name, opset, attribute_values(node), len(outputs), soft)
    operator = find_operator(node.domain, node.op_type)
    if operator is None:  # cannot be: the plan refused it before
        raise described.unsupported("an unknown operator")
    return Step(described, operator, tuple(node.input), tuple(outputs))


def _identity(step: Step) -> Step:
    return replace(
        step,
        node=replace(step.node, operator="Identity", attributes={}),
        operator=OPERATORS["Identity"],
        inputs=step.inputs[:1],
    )


def _with_frees(steps: Sequence[Step], kept: set[str]) -> tuple[Step, ...]:
    last_use = {name: index for index, step in enumerate(steps) for name in (*step.outputs, *step.inputs) if name}
    frees: list[list[str]] = [[] for _ in steps]
    for name, index in last_use.items():
        if name not in kept:
            frees[index].append(name)
    return tuple(replace(step, frees=tuple(names)) for step, names in zip(steps, frees, strict=True))
