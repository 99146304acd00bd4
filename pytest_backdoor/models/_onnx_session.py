"""Opening ONNX models in ONNX Runtime, from bytes that were read once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..errors import ModelError
from ._classifier import one_line
from ._embedding import embedded, mostly_outside

if TYPE_CHECKING:
    import onnxruntime

ELEMENT_TYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8"}
FROM_MEMORY = "add_external_initializers_from_files_in_memory"  # not in the oldest releases that are supported
# What precedes the message proper: a status, then perhaps the source line and the C++ function that raised it.
RUNTIME_PREFIX = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : (?:\S+\.(?:h|cc):\d+ .*?\) )?")


def open_session(content: bytes, display: str, external: Mapping[str, bytes]) -> onnxruntime.InferenceSession:
    """The model ``content`` in ONNX Runtime, on the CPU.

    ``external``: external data by location; the runtime copies what it needs before this returns. Raises ModelError if
    it refuses the model.
    """
    import onnxruntime

    outside: Mapping[str, bytes] = {}
    if external:
        content, outside = _fit_for_session(content, external, display)
    options = onnxruntime.SessionOptions()
    if outside:
        buffers = list(outside.values())
        getattr(options, FROM_MEMORY)(list(outside), buffers, [len(buffer) for buffer in buffers])
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # it raises many types, some of them not exported
        raise ModelError(
            f"{display} cannot be opened as an ONNX model: {reason(error)} "
            "Fetch the file again or export the model again."
        ) from error


def only_input(session: onnxruntime.InferenceSession, display: str) -> onnxruntime.NodeArg:
    """The model's only input. Raises ModelError if it has several or if that is no image."""
    inputs = session.get_inputs()
    if len(inputs) != 1:
        names = ", ".join(node.name for node in inputs) or "none"
        raise ModelError(
            f"{display} takes {len(inputs)} inputs ({names}); only models with one image input can be audited. "
            "Export the model with its other inputs fixed."
        )
    node = inputs[0]
    if node.type not in ELEMENT_TYPES:
        raise ModelError(
            f"{display} takes an input of type {node.type}; images must be float32, float16 or uint8. "
            "Export the model with such an input."
        )
    return node


def reason(error: BaseException) -> str:
    """What ONNX Runtime says, in one line and without its source code."""
    return one_line(Exception(RUNTIME_PREFIX.sub("", str(error).strip())))


def _fit_for_session(content: bytes, external: Mapping[str, bytes], display: str) -> tuple[bytes, Mapping[str, bytes]]:
    """The model with the external data inside that ONNX Runtime cannot take from memory, and the others."""
    import onnxruntime

    if hasattr(onnxruntime.SessionOptions, FROM_MEMORY):
        return mostly_outside(content, external, display)
    return embedded(content, external, display), {}
