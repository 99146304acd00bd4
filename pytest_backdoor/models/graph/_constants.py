"""ONNX types, tensors and attributes as torch and Python values; nothing is read from outside the model."""

from __future__ import annotations

import math

import numpy as np
import onnx
import torch
from onnx import AttributeProto, TensorProto, numpy_helper

from pytest_backdoor.errors import NotAssessableError

from ._registry import MAXIMUM_ELEMENTS

# Half precision is computed in float32, for better gradients; torch knows few operations on the wide unsigned types.
_TORCH_TYPES: dict[str, torch.dtype] = {
    "FLOAT": torch.float32,
    "FLOAT16": torch.float32,
    "BFLOAT16": torch.float32,
    "DOUBLE": torch.float64,
    "BOOL": torch.bool,
    "INT8": torch.int8,
    "INT16": torch.int16,
    "INT32": torch.int32,
    "INT64": torch.int64,
    "UINT8": torch.uint8,
    "UINT16": torch.int64,
    "UINT32": torch.int64,
    "UINT64": torch.int64,
}

_NUMPY_TYPES: dict[torch.dtype, type[np.generic]] = {
    torch.float32: np.float32,
    torch.float64: np.float64,
    torch.bool: np.bool_,
    torch.int8: np.int8,
    torch.int16: np.int16,
    torch.int32: np.int32,
    torch.int64: np.int64,
    torch.uint8: np.uint8,
}


def type_name(element_type: int) -> str:
    """Return the ONNX name of an element type ("FLOAT", "UINT8"), or the number when it is unknown."""
    try:
        return str(TensorProto.DataType.Name(element_type))
    except ValueError:
        return str(element_type)


def torch_type(element_type: int) -> torch.dtype:
    """Return the torch type that carries an ONNX element type; raises NotAssessableError for strings, float8, ..."""
    name = type_name(element_type)
    if name not in _TORCH_TYPES:
        raise NotAssessableError(
            f"the model graph uses tensors of type {name}, which the gradient-based checks do not support; "
            "export the model in float32"
        )
    return _TORCH_TYPES[name]


def tensor_from_array(array: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
    """Copy an array into a torch tensor on the CPU."""
    # A copy: arrays that view the file's bytes are read-only, and ml_dtypes arrays are unknown to torch.
    return torch.from_numpy(np.array(array.astype(_NUMPY_TYPES[dtype]), order="C"))


def tensor_from_proto(proto: TensorProto) -> torch.Tensor:
    """Return the tensor that a TensorProto holds; half precision becomes float32.

    Raises NotAssessableError when the data lies in another file, is of an unsupported type or of the wrong size.
    """
    dtype = torch_type(proto.data_type)
    if proto.data_location == TensorProto.EXTERNAL:
        raise NotAssessableError(
            f"the data of tensor {proto.name!r} lies in another file; load the model together with its external data "
            "(onnx.load does) or save it as one file"
        )
    if math.prod(proto.dims) > 8 * MAXIMUM_ELEMENTS:
        raise NotAssessableError(f"tensor {proto.name!r} of shape {list(proto.dims)} is too large to be audited")
    try:
        return tensor_from_array(numpy_helper.to_array(proto), dtype)
    except Exception as error:
        raise NotAssessableError(f"tensor {proto.name!r} of the model file is malformed: {error}") from error


def attribute_value(attribute: AttributeProto) -> object:
    """Return an attribute as int, float, str, list or tensor; raises NotAssessableError when it is none of these."""
    kind = attribute.type
    if kind == AttributeProto.INT:
        return int(attribute.i)
    if kind == AttributeProto.FLOAT:
        return float(attribute.f)
    if kind == AttributeProto.STRING:
        return attribute.s.decode("utf-8", errors="replace")
    if kind == AttributeProto.INTS:
        return [int(entry) for entry in attribute.ints]
    if kind == AttributeProto.FLOATS:
        return [float(entry) for entry in attribute.floats]
    if kind == AttributeProto.STRINGS:
        return [entry.decode("utf-8", errors="replace") for entry in attribute.strings]
    if kind == AttributeProto.TENSOR:
        return tensor_from_proto(attribute.t)
    raise NotAssessableError(
        f"attribute {attribute.name!r} of the model graph holds a value that the gradient-based checks do not "
        "support (a subgraph, a sparse tensor or a type); export the model again with standard operators"
    )


def attribute_values(node: onnx.NodeProto) -> dict[str, object]:
    """Resolve all attributes of a node once; raises NotAssessableError as attribute_value does."""
    return {attribute.name: attribute_value(attribute) for attribute in node.attribute}
