"""The range of a model's images, where its ONNX graph says it: its first operator divides them by 255."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx

PIXEL_RANGE = (0.0, 255.0)
# x / 255 gives [0, 1]; x / 127.5, of which 1 is then taken, gives [-1, 1]. Either graph takes images in [0, 255].
DIVISORS = (255.0, 127.5)
OPERATORS = (b'"\x03Div', b'"\x03Mul')  # how the file writes them
PASSED_OVER = {"Cast", "Identity", "Transpose"}


def range_in_graph(content: bytes, name: str) -> tuple[float, float] | None:
    """(0, 255) if the first arithmetic on the input ``name`` of the ONNX model ``content`` scales by 1/255 or 1/127.5.

    None if it does anything else. This is what the graph says, not what is right for the model: whoever made the file
    can undo the division later on.
    """
    import struct

    numbers = [struct.pack("<f", number) for divisor in DIVISORS for number in (divisor, 1 / divisor)]
    # Importing onnx to find none would be slow.
    if not any(text in content for text in OPERATORS) or not any(number in content for number in numbers):
        return None
    import onnx

    graph = onnx.ModelProto.FromString(content).graph
    node = _first_arithmetic(graph, name)
    return PIXEL_RANGE if node is not None and _scales_pixels(*node, _constants(graph)) else None


def _first_arithmetic(graph: onnx.GraphProto, name: str) -> tuple[onnx.NodeProto, str] | None:
    """The only reader of the input that changes its values, and the name of what it reads."""
    while True:
        readers = [node for node in graph.node if name in node.input]
        if len(readers) != 1:
            return None
        if readers[0].op_type not in PASSED_OVER:
            return readers[0], name
        name = readers[0].output[0]


def _constants(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    found = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            found.update((node.output[0], part.t) for part in node.attribute if part.name == "value")
    return found


def _scales_pixels(node: onnx.NodeProto, name: str, constants: dict[str, onnx.TensorProto]) -> bool:
    if node.op_type not in ("Div", "Mul") or node.domain not in ("", "ai.onnx"):
        return False
    if node.op_type == "Div" and node.input[0] != name:
        return False
    other = next((part for part in node.input if part != name), None)
    if other not in constants:
        return False
    values = _values(constants[other])
    factors = DIVISORS if node.op_type == "Div" else tuple(1 / divisor for divisor in DIVISORS)
    return any(
        len(values) > 0 and all(math.isclose(value, factor, rel_tol=1e-3) for value in values) for factor in factors
    )


def _values(tensor: onnx.TensorProto) -> list[Any]:
    from onnx import numpy_helper

    if math.prod(tensor.dims) > 4:  # one number, or one for each channel
        return []
    return [float(value) for value in numpy_helper.to_array(tensor).reshape(-1)]
