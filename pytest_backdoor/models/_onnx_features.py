"""Cutting a classifier's ONNX graph in front of its last linear layer: images in, features and class scores out."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from ..errors import NotAssessableError
from ._onnx_session import open_session

if TYPE_CHECKING:
    import onnx
    import onnxruntime

LINEAR = ("Gemm", "MatMul")
# What else has weights and may end a classifier; such a model has no feature vector that a linear layer takes.
OTHER_LAYERS = (
    *("Conv", "ConvTranspose", "Einsum", "LSTM", "GRU", "RNN"),
    *("ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul", "QGemm"),
)
REMEDY = (
    "Scan the model as it was before quantisation, or export it with a linear layer (torch.nn.Linear, an ONNX Gemm or "
    "MatMul) as the last one that has weights."
)


def open_with_features(
    content: bytes, external: Mapping[str, bytes], display: str, output: str
) -> tuple[onnxruntime.InferenceSession, str]:
    """The model in ONNX Runtime with one more output, and the name of that: see ``features_name``.

    ``content``, ``external`` and ``display`` as for ``open_session``, ``output``: the name of its class scores.
    """
    import onnx

    model = onnx.ModelProto.FromString(content)
    name = features_name(model.graph, output, display)
    if name not in {value.name for value in model.graph.output}:
        model.graph.output.append(onnx.ValueInfoProto(name=name))
    return open_session(model.SerializeToString(), display, external), name


def features_name(graph: onnx.GraphProto, output: str, display: str) -> str:
    """The value that the last linear layer before ``output`` takes.

    Raises NotAssessableError if another layer is the last one, or if not all that the output knows of the image passes
    through that layer.
    """
    constants = {tensor.name for tensor in graph.initializer}
    images = {value.name for value in graph.input} - constants
    of_image, reaching = _reached_from(graph, images, without=()), _reaching(graph, output)
    layers = [
        node for node in graph.node if node.op_type in (*LINEAR, *OTHER_LAYERS) and reaching.intersection(node.output)
    ]
    last = layers[-1] if layers else None
    taken = [name for name in last.input[:2] if name in of_image] if last is not None else []
    if last is None or last.op_type not in LINEAR or len(taken) != 1:
        what = "no layer with weights" if last is None else f"the operator {last.op_type}"
        raise NotAssessableError(
            f"{display} ends with {what}, not with a linear layer, so its images have no features.", remedy=REMEDY
        )
    if output in _reached_from(graph, images, without=last.output):
        raise NotAssessableError(
            f"{display} has several last layers side by side, so its images have no single features.", remedy=REMEDY
        )
    return str(taken[0])


def _reached_from(graph: onnx.GraphProto, names: Collection[str], *, without: Collection[str]) -> set[str]:
    """The names of all values that depend on others, themselves included, other than through those ``without``."""
    reached = set(names)
    for node in graph.node:  # in topological order
        if reached.intersection(node.input):
            reached.update(name for name in node.output if name not in without)
    return reached


def _reaching(graph: onnx.GraphProto, output: str) -> set[str]:
    reaching = {output}
    for node in reversed(graph.node):
        if reaching.intersection(node.output):
            reaching.update(node.input)
    return reaching
