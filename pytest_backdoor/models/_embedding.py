"""Putting an ONNX model's external data into the model, so that whoever opens it opens no other file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from math import prod
from typing import TYPE_CHECKING, Any

from pytest_backdoor.errors import ModelError

from ._files import MAX_PROTOBUF_BYTES
from .inspection import checked_location, data_bytes

if TYPE_CHECKING:
    import onnx

# Sizes and other small constants, which runtimes want to see before they have weights.
SMALL_BYTES = 1024


def embedded(content: bytes, external: Mapping[str, bytes], display: str) -> bytes:
    """The model ``content`` with all of its ``external`` data (by location) inside.

    The model was inspected: every place that a tensor names is there. Raises ModelError if the whole is larger than
    protobuf can hold.
    """
    return _embed(content, external, display, lambda length, of_graph: True)[0]


def mostly_outside(content: bytes, external: Mapping[str, bytes], display: str) -> tuple[bytes, dict[str, bytes]]:
    """The model with only that inside which cannot stay out, and the rest by location as the model spells it.

    What stays out are initializers of the main graph, other than small ones: ONNX Runtime takes nothing else from
    memory. Raises as ``embedded``.
    """
    return _embed(content, external, display, lambda length, of_graph: length <= SMALL_BYTES or not of_graph)


def _embed(
    content: bytes, external: Mapping[str, bytes], display: str, goes_in: Callable[[int, bool], bool]
) -> tuple[bytes, dict[str, bytes]]:
    """The model with those external tensors inside for which ``goes_in``, and the files of the others by location.

    ``goes_in``: told the length of a tensor's data and whether it is an initializer of the main graph.
    """
    import onnx

    model = onnx.ModelProto.FromString(content)
    of_graph = {id(tensor): tensor for tensor in model.graph.initializer}
    outside: dict[str, bytes] = {}
    total = len(content)
    for tensor in tensors_in(model):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries["location"]
        data = external[checked_location(location.encode())]
        offset = int(entries.get("offset") or 0)
        length = int(entries.get("length") or _length(tensor))
        if not goes_in(length, id(tensor) in of_graph):
            outside[location] = data
            continue
        total += length
        if total > MAX_PROTOBUF_BYTES:
            raise ModelError(f"{display} has more than 2 GiB of weights, which is too much to be audited.")
        tensor.raw_data = data[offset : offset + length]
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
    return model.SerializeToString(), outside


def _length(tensor: onnx.TensorProto) -> int:
    """The bytes that the sizes of a tensor ask for."""
    import onnx

    return data_bytes(onnx.TensorProto.DataType.Name(tensor.data_type), prod(tensor.dims))


def tensors_in(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor anywhere in the model.

    Goes through all fields instead of a list of places: attributes, subgraphs, functions, sparse tensors and training
    graphs all count, and so does what a later version of ONNX adds.
    """
    import onnx

    pending: list[Any] = [model]
    while pending:
        message = pending.pop()
        if isinstance(message, onnx.TensorProto):
            yield message
            continue
        for field, value in message.ListFields():
            if field.message_type is not None:
                pending.extend([value] if hasattr(value, "ListFields") else value)
