"""Judging every call that a pickle of weights makes, above all whether tensors fit into their storages.

Sizes are Python integers throughout and are compared before anything of that size could come into being. A call is
judged when the pickle makes it, as its loader would do it, so nothing that is changed afterwards can slip through.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from ._dtypes import STORAGES, TYPES, ElementType
from ._globals import ALLOWED, DTYPES, STORAGE_CLASSES, TENSOR_CLASSES
from ._problems import Problems, shown
from ._values import Dictionary, Global, Opaque, Storage, Tensor

MOST_DIMENSIONS = 64
STORAGE_KEY = re.compile(r"[0-9A-Za-z_.-]{1,128}")
# A sparse tensor may be this much larger than what is stored of it: more is nothing a classifier has.
LARGEST_SPARSE_RATIO = 1000
BYTE_CODECS = ("latin1", "latin-1", "utf-8", "ascii")


class _MismatchError(Exception):
    """Sizes do not agree; the text says how the sentence goes on that begins with "holds a tensor"."""


class TensorBuilder:
    """Takes the place of torch where a pickle wants tensors.

    ``problems``: where what is wrong is put. ``views``: whether storages may be parts of others, as in torch's legacy
    format. ``storages``: by key, those that the file must hold; ``parts``: the others.
    """

    def __init__(self, problems: Problems, *, views: bool) -> None:
        self.problems = problems
        self.storages: dict[str, Storage] = {}
        self.parts: dict[str, Storage] = {}
        self._views = views

    def call(self, function: object, arguments: object) -> object:
        """See ``Builder.call``."""
        if not isinstance(function, Global):
            self.problems.add("unsafe-serialisation", "calls something that it computes itself")
            return Opaque("result of a call")
        if function.path not in ALLOWED:
            return Opaque("result of a call")  # reported with the names
        judge = _JUDGES.get(function.path)
        if judge is None:
            judge = _new_tensor if function.path in TENSOR_CLASSES else _not_called
        try:
            if not isinstance(arguments, tuple):
                raise TypeError
            return judge(self, *arguments)
        except _MismatchError as error:
            self.problems.add("inconsistent-tensors", f"holds a tensor {error}")
        except (TypeError, ValueError):
            name = function.path.rpartition(".")[2]
            self.problems.add("malformed-file", f"calls {name} with arguments that torch.save never writes")
        return Tensor() if "tensor" in function.path.lower() else Opaque("result of a call")

    def build(self, target: object, state: object) -> None:
        """See ``Builder.build``."""
        if isinstance(target, Tensor):
            self._build_tensor(target, state)
        elif not isinstance(target, (Dictionary, Opaque)):
            self.problems.add("unsafe-serialisation", "changes the state of something that is no tensor")

    def _build_tensor(self, target: Tensor, state: object) -> None:
        """Tensors of torch before 0.4: made empty, then given a storage; a parameter gets a tensor instead."""
        try:
            if not isinstance(state, tuple):
                raise TypeError
            if isinstance(state[0], Storage):
                found = _tensor(self, *state[:4])
                target.dtype, target.numel, target.storage = found.dtype, found.numel, found.storage
                target.start, target.stop = found.start, found.stop
                state[0].used[-1] = target
        except _MismatchError as error:
            self.problems.add("inconsistent-tensors", f"holds a tensor {error}")
        except (TypeError, ValueError, IndexError):
            self.problems.add("malformed-file", "gives a tensor a state that torch.save never writes")

    def persistent(self, identifier: object) -> object:
        """See ``Builder.persistent``."""
        if not isinstance(identifier, tuple) or not identifier or identifier[0] not in ("storage", b"storage"):
            self.problems.add("unsafe-serialisation", "asks for an object from outside that is no storage")
            return Opaque("object from outside")
        try:
            return self._storage(*identifier[1:])
        except _MismatchError as error:
            self.problems.add("inconsistent-tensors", f"holds a storage {error}")
        except (TypeError, ValueError):
            self.problems.add("malformed-file", "describes a storage in a way that torch.save never writes")
        return Opaque("storage")

    def _storage(self, kind: object, key: object, location: object, numel: object, *view: object) -> Storage:
        dtype = _storage_type(kind)
        key = key.decode("ascii") if isinstance(key, bytes) else key
        if not isinstance(key, str) or not STORAGE_KEY.fullmatch(key) or not isinstance(location, (str, bytes)):
            raise ValueError
        if len(view) != self._views:
            raise ValueError
        size = _natural(numel) * dtype.unit
        storage = self.storages.setdefault(key, Storage(key=key, dtype=dtype, size=size))
        if (storage.dtype, storage.size) != (dtype, size):
            raise _MismatchError(f"{shown(key)} that is described in two ways")
        return self._part(storage, view[0]) if view and view[0] is not None else storage

    def _part(self, whole: Storage, view: object) -> Storage:
        """A storage within another, which files of torch before 0.4 have."""
        if not isinstance(view, tuple) or len(view) != 3:
            raise ValueError
        key, offset, numel = view
        if not isinstance(key, str) or not STORAGE_KEY.fullmatch(key):
            raise ValueError
        start, size = _natural(offset) * whole.dtype.unit, _natural(numel) * whole.dtype.unit
        if start + size > whole.size:
            raise _MismatchError(f"{shown(key)} that lies outside the one it is part of")
        part = self.parts.setdefault(key, Storage(key=key, dtype=whole.dtype, size=size, whole=whole, offset=start))
        if (part.whole, part.offset, part.size) != (whole, start, size):
            raise _MismatchError(f"{shown(key)} that is described in two ways")
        return part


def _natural(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError
    if value < 0:
        raise _MismatchError("with a negative size")
    return value


def _naturals(values: object) -> tuple[int, ...]:
    if not isinstance(values, (tuple, list)) or len(values) > MOST_DIMENSIONS:
        raise TypeError
    return tuple(_natural(value) for value in values)


def _storage_type(kind: object) -> ElementType:
    if not isinstance(kind, Global) or kind.path not in STORAGE_CLASSES:
        raise TypeError
    name = kind.path.rpartition(".")[2]
    if name not in STORAGES:  # TypedStorage, which does not say of what
        raise TypeError
    return TYPES[STORAGES[name]]


def _dtype(value: object) -> ElementType:
    if not isinstance(value, Global) or value.path not in DTYPES:
        raise TypeError
    return TYPES[value.path.removeprefix("torch.")]


def _no_hooks(hooks: object) -> None:
    if hooks is None:
        return
    if not isinstance(hooks, Dictionary) or hooks.size:
        raise TypeError
    hooks.fixed = True


def _tensor(
    builder: TensorBuilder,
    storage: object,
    offset: object,
    size: object,
    stride: object,
    dtype: ElementType | None = None,
) -> Tensor:
    if not isinstance(storage, Storage):
        raise TypeError
    dtype = dtype or storage.dtype
    sizes, strides = _naturals(size), _naturals(stride)
    if len(sizes) != len(strides):
        raise _MismatchError("that has more sizes than strides, or fewer")
    numel, first = math.prod(sizes), _natural(offset)
    unit = max(1, dtype.bits // 8)
    last = first + sum((length - 1) * step for length, step in zip(sizes, strides, strict=True)) if numel else first - 1
    per_unit = max(1, 8 // dtype.bits)
    start, stop = first * unit, -(-(last + 1) // per_unit) * unit
    if (numel and stop > storage.size) or first * unit > storage.size:
        raise _MismatchError(f"that reaches beyond its storage: to byte {stop} of {storage.size}")
    if -(-numel * dtype.bits // 8) > storage.size:
        raise _MismatchError(f"of {numel} elements on a storage of {storage.size} bytes")
    tensor = Tensor(dtype=dtype, numel=numel, storage=storage, start=start, stop=stop if numel else start)
    storage.used.append(tensor)
    return tensor


def _rebuild(
    builder: TensorBuilder,
    storage: object,
    offset: object,
    size: object,
    stride: object,
    requires_grad: object,
    hooks: object,
    metadata: object = None,
) -> Tensor:
    _no_hooks(hooks)
    if not (metadata is None or isinstance(metadata, Dictionary)):
        raise TypeError
    return _tensor(builder, storage, offset, size, stride)


def _rebuild_with_dtype(
    builder: TensorBuilder,
    storage: object,
    offset: object,
    size: object,
    stride: object,
    requires_grad: object,
    hooks: object,
    dtype: object,
    metadata: object = None,
) -> Tensor:
    _no_hooks(hooks)
    if not (metadata is None or isinstance(metadata, Dictionary)):
        raise TypeError
    return _tensor(builder, storage, offset, size, stride, _dtype(dtype))


def _rebuild_plain(builder: TensorBuilder, storage: object, offset: object, size: object, stride: object) -> Tensor:
    return _tensor(builder, storage, offset, size, stride)


def _rebuild_quantised(
    builder: TensorBuilder,
    storage: object,
    offset: object,
    size: object,
    stride: object,
    parameters: object,
    requires_grad: object,
    hooks: object,
) -> Tensor:
    _no_hooks(hooks)
    tensor = _tensor(builder, storage, offset, size, stride)
    if not isinstance(parameters, tuple) or not isinstance(parameters[0], Global):
        raise TypeError
    if parameters[0].path.startswith("torch.per_channel"):
        _, scales, zero_points, axis = parameters
        sizes = _naturals(size)
        if not 0 <= _natural(axis) < len(sizes):
            raise _MismatchError("that is quantised along an axis that it does not have")
        if not _length(scales) == _length(zero_points) == sizes[_natural(axis)]:
            raise _MismatchError("with more scales than channels, or fewer")
    elif len(parameters) != 3:
        raise TypeError
    return tensor


def _length(values: object) -> int | None:
    if isinstance(values, Tensor):
        return values.numel
    if not isinstance(values, list):
        raise TypeError
    return len(values)


def _parameter(
    builder: TensorBuilder, data: object, requires_grad: object = True, hooks: object = None, state: object = None
) -> Tensor:
    _no_hooks(hooks)
    if not isinstance(data, Tensor):
        raise TypeError
    return data


def _old_parameter(builder: TensorBuilder, *arguments: object) -> Tensor:
    return _parameter(builder, *arguments[:2]) if arguments else Tensor()


def _sparse(builder: TensorBuilder, layout: object, data: object) -> Tensor:
    if not isinstance(layout, Opaque) or not isinstance(data, tuple):
        raise TypeError
    tensors = [part for part in data if isinstance(part, Tensor)]
    shapes = [part for part in data if isinstance(part, (tuple, list))]
    if len(tensors) not in (2, 3) or len(shapes) != 1:
        raise TypeError
    return _sparse_of(tensors, shapes[0])


def _sparse_of(tensors: list[Tensor], shape: object) -> Tensor:
    values = tensors[-1]
    dense = math.prod(_naturals(shape)) * (values.dtype.bits // 8 if values.dtype else 1)
    stored = sum(part.stop - part.start for part in tensors)
    if dense > LARGEST_SPARSE_RATIO * max(stored, 1024):
        raise _MismatchError(f"of {stored} bytes that becomes {dense} bytes when it is no longer sparse")
    return Tensor(dtype=values.dtype, numel=None)


def _without_data(builder: TensorBuilder, *arguments: object) -> Tensor:
    raise _MismatchError("without data")


def _unchecked(builder: TensorBuilder, *arguments: object) -> Tensor:
    raise _MismatchError("whose size is only known once it is made")


def _moved(builder: TensorBuilder, data: object, dtype: object, device: object, requires_grad: object) -> Tensor:
    _dtype(dtype)
    if not isinstance(data, Tensor):
        raise TypeError
    return data


def _typed(builder: TensorBuilder, function: object, kind: object, arguments: object, state: object) -> object:
    """``_rebuild_from_type_v2``: a tensor with a class or attributes of its own."""
    if not isinstance(kind, Global) or kind.path not in TENSOR_CLASSES | {"torch.nn.parameter.Parameter"}:
        raise TypeError
    return builder.call(function, arguments)


def _new_tensor(builder: TensorBuilder, *arguments: object) -> Tensor:
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


def _not_called(builder: TensorBuilder, *arguments: object) -> object:
    raise TypeError


def _ordered(builder: TensorBuilder, items: object = ()) -> Dictionary:
    if not isinstance(items, (list, tuple)):
        raise TypeError
    for item in items:  # as Python 2 wrote it
        if not isinstance(item, (list, tuple)) or len(item) != 2 or not isinstance(item[0], (str, bytes, int)):
            raise TypeError
        if isinstance(item[1], Tensor) and isinstance(item[0], str):
            item[1].name = item[1].name or item[0]
    return Dictionary(kind="OrderedDict", size=len(items))


def _counter(builder: TensorBuilder, items: object = None) -> Dictionary:
    if not (items is None or isinstance(items, Dictionary)):
        raise TypeError
    return Dictionary(kind="Counter")


def _set(builder: TensorBuilder, items: object = ()) -> Opaque:
    """A set of plain values: hashing containers of containers may take forever."""
    if not isinstance(items, (list, tuple)) or not all(isinstance(item, (str, bytes, int, float)) for item in items):
        raise TypeError
    return Opaque("set")


def _size(builder: TensorBuilder, sizes: object = ()) -> tuple[int, ...]:
    return _naturals(sizes)


def _opaque(what: str, *kinds: type | tuple[type, ...], least: int = 0) -> Callable[..., object]:
    """A call of at most as many arguments as ``kinds``, at least ``least``, each of its kind."""

    def make(builder: TensorBuilder, *arguments: object) -> Opaque:
        if not least <= len(arguments) <= len(kinds):
            raise TypeError
        if not all(isinstance(argument, kind) for argument, kind in zip(arguments, kinds, strict=False)):
            raise TypeError
        return Opaque(what)

    return make


def _encode(builder: TensorBuilder, text: object, codec: object) -> Opaque:
    """How protocol 2 writes bytes; codecs with a life of their own (compression, imports) are refused."""
    if not isinstance(text, (str, Opaque)) or codec not in BYTE_CODECS:
        raise TypeError
    return Opaque("bytes")


_JUDGES: dict[str, Callable[..., object]] = {
    "torch._utils._rebuild_tensor": _rebuild_plain,
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
    "torch._tensor._rebuild_from_type_v2": _typed,
    "torch.nn.parameter.Parameter": _old_parameter,
    "torch.Size": _size,
    "torch.device": _opaque("device", str, int, least=1),
    "torch.serialization._get_layout": _opaque("layout", str, least=1),
    "collections.OrderedDict": _ordered,
    "collections.Counter": _counter,
    "builtins.set": _set,
    "builtins.complex": _opaque("number", (int, float), (int, float)),
    # A number as its argument would reserve memory.
    "builtins.bytearray": _opaque("bytes", (str, bytes, Opaque), str),
    "_codecs.encode": _encode,
}
