"""Judging the calls of a pickle of weights that make tensors: each must fit into its storage.

Each function takes what torch's function of that name takes, raises MismatchError where sizes do not agree and
TypeError or ValueError for arguments that torch.save never writes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

from ._arguments import MismatchError, element_type, natural, naturals, no_hooks
from ._dtypes import ElementType
from ._values import Dictionary, Global, Opaque, Storage, Tensor

# A sparse tensor may be this much larger than what is stored of it: more is nothing a classifier has.
LARGEST_SPARSE_RATIO = 1000


def make_tensor(
    storage: object, offset: object, size: object, stride: object, *, dtype: ElementType | None = None
) -> Tensor:
    """A tensor on a storage, which is told of it; ``dtype``: None for that of the storage."""
    if not isinstance(storage, Storage):
        raise TypeError
    dtype = dtype or storage.dtype
    sizes, strides = naturals(size), naturals(stride)
    if len(sizes) != len(strides):
        raise MismatchError("that has more sizes than strides, or fewer")
    numel, first = math.prod(sizes), natural(offset)
    unit = max(1, dtype.bits // 8)
    last = first + sum((length - 1) * step for length, step in zip(sizes, strides, strict=True)) if numel else first - 1
    per_unit = max(1, 8 // dtype.bits)
    start, stop = first * unit, -(-(last + 1) // per_unit) * unit
    if (numel and stop > storage.size) or first * unit > storage.size:
        raise MismatchError(f"that reaches beyond its storage: to byte {stop} of {storage.size}")
    if -(-numel * dtype.bits // 8) > storage.size:
        raise MismatchError(f"of {numel} elements on a storage of {storage.size} bytes")
    tensor = Tensor(dtype=dtype, numel=numel, storage=storage, start=start, stop=stop if numel else start)
    storage.used.append(tensor)
    return tensor


def _rebuild(
    storage: object,
    offset: object,
    size: object,
    stride: object,
    requires_grad: object,
    hooks: object,
    metadata: object = None,
    *,
    dtype: ElementType | None = None,
) -> Tensor:
    no_hooks(hooks)
    if not (metadata is None or isinstance(metadata, Dictionary)):
        raise TypeError
    return make_tensor(storage, offset, size, stride, dtype=dtype)


def _rebuild_with_dtype(
    storage: object,
    offset: object,
    size: object,
    stride: object,
    requires_grad: object,
    hooks: object,
    dtype: object,
    metadata: object = None,
) -> Tensor:
    return _rebuild(storage, offset, size, stride, requires_grad, hooks, metadata, dtype=element_type(dtype))


def _rebuild_quantised(
    storage: object,
    offset: object,
    size: object,
    stride: object,
    parameters: object,
    requires_grad: object,
    hooks: object,
) -> Tensor:
    no_hooks(hooks)
    tensor = make_tensor(storage, offset, size, stride)
    if not isinstance(parameters, tuple) or not parameters or not isinstance(parameters[0], Global):
        raise TypeError
    if parameters[0].path.startswith("torch.per_channel"):
        _, scales, zero_points, axis = parameters
        sizes = naturals(size)
        if not 0 <= natural(axis) < len(sizes):
            raise MismatchError("that is quantised along an axis that it does not have")
        if not _length(scales) == _length(zero_points) == sizes[natural(axis)]:
            raise MismatchError("with more scales than channels, or fewer")
    elif len(parameters) != 3:
        raise TypeError
    return tensor


def _length(values: object) -> int | None:
    if isinstance(values, Tensor):
        return values.numel
    if not isinstance(values, list):
        raise TypeError
    return len(values)


def _parameter(data: object, requires_grad: object = True, hooks: object = None, state: object = None) -> Tensor:
    no_hooks(hooks)
    if not isinstance(data, Tensor):
        raise TypeError
    return data


def _old_parameter(*arguments: object) -> Tensor:
    return _parameter(*arguments[:2]) if arguments else Tensor()


def _sparse(layout: object, data: object) -> Tensor:
    if not isinstance(layout, Opaque) or not isinstance(data, tuple):
        raise TypeError
    tensors = [part for part in data if isinstance(part, Tensor)]
    shapes = [part for part in data if isinstance(part, (tuple, list))]
    if len(tensors) not in (2, 3) or len(shapes) != 1:
        raise TypeError
    return _sparse_of(tensors, shapes[0])


def _sparse_of(tensors: list[Tensor], shape: object) -> Tensor:
    values = tensors[-1]
    dense = math.prod(naturals(shape)) * (values.dtype.bits // 8 if values.dtype else 1)
    stored = sum(part.stop - part.start for part in tensors)
    if dense > LARGEST_SPARSE_RATIO * max(stored, 1024):
        raise MismatchError(f"of {stored} bytes that becomes {dense} bytes when it is no longer sparse")
    return Tensor(dtype=values.dtype, numel=None)


def _without_data(*arguments: object) -> Tensor:
    raise MismatchError("without data")


def _unchecked(*arguments: object) -> Tensor:
    raise MismatchError("whose size is only known once it is made")


def _moved(data: object, dtype: object, device: object, requires_grad: object) -> Tensor:
    element_type(dtype)
    return _parameter(data)


def new_tensor(*arguments: object) -> Tensor:
    """A class of tensors is called without arguments (torch before 0.4), or with the parts of a sparse tensor.

    Anything else, say a number, would reserve memory.
    """
    if not arguments:
        return Tensor()
    *parts, shape = arguments
    tensors = [part for part in parts if isinstance(part, Tensor)]
    if len(tensors) != 2 or len(parts) != 2:
        raise TypeError
    return _sparse_of(tensors, shape)


# By the name that the pickle calls; classes of tensors, which are many, have ``new_tensor``.
TENSOR_CALLS: Mapping[str, Callable[..., object]] = MappingProxyType(
    {
        "torch._utils._rebuild_tensor": make_tensor,
        "torch._utils._rebuild_tensor_v2": _rebuild,
        "torch._utils._rebuild_tensor_v3": _rebuild_with_dtype,
        "torch._utils._rebuild_qtensor": _rebuild_quantised,
        "torch._utils._rebuild_parameter": _parameter,
        "torch._utils._rebuild_parameter_with_state": _parameter,
        "torch._utils._rebuild_sparse_tensor": _sparse,
        "torch._utils._rebuild_meta_tensor_no_storage": _without_data,
        "torch._utils._rebuild_wrapper_subclass": _without_data,
        "torch._utils._rebuild_nested_tensor": _unchecked,
        "torch._utils._rebuild_device_tensor_from_numpy": _unchecked,
        "torch._utils._rebuild_device_tensor_from_cpu_tensor": _moved,
        "torch.nn.parameter.Parameter": _old_parameter,
    }
)
