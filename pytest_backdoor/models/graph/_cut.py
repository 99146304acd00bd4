"""Cutting an object detector's graph where it looks at one box after the other: boxes in, class scores out.

What comes before, the choice of the boxes, has no useful gradients and is full of loops and conditions; what comes
after makes a list of detections out of scores.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import TypeAlias

import onnx
import torch
from onnx import AttributeProto, TensorProto, helper

from pytest_backdoor.errors import NotAssessableError

from ._constants import torch_type
from ._interpreter import fold_constants, place_constants, run_plan
from ._plan import Plan, graph_inputs, make_plan

ALIGNMENT = "RoiAlign"
SOFTMAXES = ("Softmax", "LogSoftmax")
_CROPS = (
    "Audit the part that classifies a box instead: export it as a model of its own, image crop in and class scores "
    "out, and scan that file."
)

RegionProgram: TypeAlias = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class RegionNames:
    """The values of a detector's graph around its only RoiAlign, by name.

    ``boxes``: float (n, 4), in pixels of what the detector makes of the image. ``images``: int64 (n,), which image of
    the batch each box is on. ``features``: float (N, C, H, W), what the boxes are cut out of; ``scale``: its pixels by
    those of the boxes. ``logits``: float (n, K), what the Softmax of the class scores takes.
    """

    features: str
    boxes: str
    images: str
    logits: str
    scale: float


def region_names(model: onnx.ModelProto, scores: str) -> RegionNames:
    """Where to cut the graph of a detector whose output ``scores`` holds the scores of its detections.

    Raises NotAssessableError if it has no RoiAlign or several (a feature pyramid), or no Softmax that the scores
    come from.
    """
    count = sum(node.op_type == ALIGNMENT for node in _all_nodes(model.graph))
    alignment = next((node for node in model.graph.node if node.op_type == ALIGNMENT), None)
    if count != 1 or alignment is None:
        found = f"{count} RoiAlign operators (a feature pyramid has one for each scale)" if count else "no RoiAlign"
        raise NotAssessableError(
            f"The model is an object detector with {found}; whole detectors are audited where exactly one cuts out "
            "the boxes.",
            remedy=_CROPS,
        )
    after = _reached_from(model.graph, set(alignment.output))
    before = _reaching(model.graph, {scores})
    softmax = next((node for node in after if node.op_type in SOFTMAXES and before.intersection(node.output)), None)
    if softmax is None:
        raise NotAssessableError(
            "The model is an object detector whose scores come from no Softmax behind its RoiAlign.", remedy=_CROPS
        )
    features, boxes, images = alignment.input
    scale = next((attribute.f for attribute in alignment.attribute if attribute.name == "spatial_scale"), 1.0)
    return RegionNames(features=features, boxes=boxes, images=images, logits=softmax.input[0], scale=scale)


def with_outputs(model: onnx.ModelProto, names: Iterable[str]) -> onnx.ModelProto:
    """A copy of the model that gives the values of these names too; ONNX Runtime finds out their types."""
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    known = {value.name for value in model.graph.output}
    copied.graph.output.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(names) if name not in known)
    return copied


def region_program(model: onnx.ModelProto, names: RegionNames, *, device: str = "cpu") -> RegionProgram:
    """The differentiable function from an image, boxes and their images' numbers to the class scores of the boxes.

    It takes the model's own input, of any float type, boxes float (n, 4) and numbers (n,), and gives float (n, K)
    before the softmax. Raises NotAssessableError as ``torch_program`` does; the function itself raises it when an
    operator cannot be computed.
    """
    target = torch.device(device)
    plan = make_plan(_cut(model, names), [names.logits], soft=True)
    plan = place_constants(fold_constants(plan), target)
    return _RegionProgram(plan, next(iter(graph_inputs(model))).name, names, target)


@dataclass(frozen=True)
class _RegionProgram:
    plan: Plan
    image: str
    names: RegionNames
    device: torch.device

    def __call__(self, image: torch.Tensor, boxes: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        values = {self.image: image, self.names.boxes: boxes, self.names.images: images}
        given = {}
        for entry in self.plan.inputs:
            dtype = torch_type(entry.element_type)
            kept = dtype.is_floating_point or entry.name == self.names.images
            given[entry.name] = values[entry.name].to(self.device, dtype if kept else torch.float32)
        return run_plan(self.plan, given)[0]


def _cut(model: onnx.ModelProto, names: RegionNames) -> onnx.ModelProto:
    """The model with the boxes as inputs and without the nodes that made them."""
    given = {names.boxes, names.images}
    nodes = [node for node in model.graph.node if not given.intersection(node.output)]
    inputs = [
        *model.graph.input,
        helper.make_tensor_value_info(names.boxes, TensorProto.FLOAT, [None, 4]),
        helper.make_tensor_value_info(names.images, TensorProto.INT64, [None]),
    ]
    weights = [tensor for tensor in model.graph.initializer if tensor.name not in given]
    graph = onnx.GraphProto(name=model.graph.name, node=nodes, input=inputs, initializer=weights)
    return onnx.ModelProto(
        ir_version=model.ir_version, opset_import=model.opset_import, functions=model.functions, graph=graph
    )


def _all_nodes(graph: onnx.GraphProto) -> Iterable[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in _subgraphs(attribute):
                yield from _all_nodes(inner)


def _subgraphs(attribute: AttributeProto) -> list[onnx.GraphProto]:
    single = [attribute.g] if attribute.type == AttributeProto.GRAPH else []
    return [*single, *attribute.graphs]


def _reads(node: onnx.NodeProto) -> set[str]:
    """The names of all values that a node reads, those within its subgraphs included."""
    inner = (entry for attribute in node.attribute for graph in _subgraphs(attribute) for entry in _all_nodes(graph))
    return {name for entry in (node, *inner) for name in entry.input}


def _reached_from(graph: onnx.GraphProto, names: Collection[str]) -> list[onnx.NodeProto]:
    """The nodes that depend on values, in their order."""
    reached, nodes = set(names), []
    for node in graph.node:
        if reached.intersection(_reads(node)):
            reached.update(node.output)
            nodes.append(node)
    return nodes


def _reaching(graph: onnx.GraphProto, names: Collection[str]) -> set[str]:
    """The names of all values that others depend on, and theirs."""
    reaching = set(names)
    for node in reversed(graph.node):
        if reaching.intersection(node.output):
            reaching.update(_reads(node))
    return reaching
