"""Which torch functions are linear in a batch, sample by sample, and what each does to a sum's two parts.

A rule takes the function, the whole batch, its parts, those of the images first and those of the arms second, and the
arguments of the call. It gives the parts of the result, or None where this call is not of the kind that it knows. A
constant that is added goes to the images' part.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

Function: TypeAlias = Callable[..., Any]
Parts: TypeAlias = tuple[Tensor, Tensor]
Rule: TypeAlias = Callable[[Function, Tensor, Parts, tuple[Any, ...], dict[str, Any]], Parts | None]


def _same(func: Function, whole: Tensor, parts: Parts, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Parts | None:
    """Functions without constants, such as averages of pixels: the same of both."""
    if not args or args[0] is not whole or "out" in kwargs:
        return None
    images, arms = (func(part, *args[1:], **kwargs) for part in parts)
    return images, arms


def _flipped(
    func: Function, whole: Tensor, parts: Parts, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Parts | None:
    dims = kwargs.get("dims", args[1:])
    dims = dims[0] if len(dims) == 1 and not isinstance(dims[0], int) else dims
    return None if any(dim % whole.dim() == 0 for dim in dims) else _same(func, whole, parts, args, kwargs)


def _reshaped(
    func: Function, whole: Tensor, parts: Parts, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Parts | None:
    """Any reshaping that leaves samples whole; written out for their whole number, such as ``view(x.size(0), -1)``."""
    if not args or args[0] is not whole:
        return None
    shape = func(torch.empty(whole.shape, device="meta"), *args[1:], **kwargs).shape
    if shape[:1] != whole.shape[:1] or math.prod(shape) != whole.numel():
        return None
    images, arms = (part.reshape(len(part), *shape[1:]) for part in parts)
    return images, arms


def _indexed(
    func: Function, whole: Tensor, parts: Parts, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Parts | None:
    """Channels or pixels of all samples."""
    index = args[1]
    of_all = isinstance(index, tuple) and index and isinstance(index[0], slice) and index[0] == slice(None)
    return _same(func, whole, parts, args, kwargs) if of_all else None


def _padded(func: Function, whole: Tensor, parts: Parts, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Parts | None:
    made = _same(func, whole, parts, args, kwargs)
    if made is None or not (args[3] if len(args) > 3 else kwargs.get("value")):
        return made
    return made[0], func(parts[1], *args[1:3], **{**kwargs, "value": 0.0})


def _arithmetic(
    name: str, _func: Function, whole: Tensor, parts: Parts, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Parts | None:
    """With a number, or a tensor that is the same for all samples."""
    if kwargs or len(args) != 2:
        return None
    first = args[0] is whole
    constant, (images, arms) = args[1] if first else args[0], parts
    if not _is_constant(constant, whole):
        return None
    if name == "add":
        return images + constant, arms
    if name == "mul":
        return images * constant, arms * constant
    if name == "div":
        return (images / constant, arms / constant) if first else None
    return (images - constant, arms) if first == (name == "sub") else (constant - images, -arms)


def _is_constant(value: Any, whole: Tensor) -> bool:
    if not isinstance(value, Tensor):
        return isinstance(value, int | float)
    if value.dim() > whole.dim() or (value.dim() == whole.dim() and value.shape[0] != 1):
        return False
    lengths = zip(value.shape[::-1], whole.shape[::-1], strict=False)
    return all(own in (1, wanted) for own, wanted in lengths)


def _normalised(
    func: Function, whole: Tensor, parts: Parts, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Parts | None:
    """Batch normalisation by stored statistics: the arms are scaled and not shifted."""
    named = dict(zip(("input", "mean", "var", "weight", "bias", "training", "momentum", "eps"), args, strict=False))
    named |= {{"running_mean": "mean", "running_var": "var"}.get(name, name): value for name, value in kwargs.items()}
    mean, var, weight, bias = (named.get(name) for name in ("mean", "var", "weight", "bias"))
    if named["input"] is not whole or named.get("training", False) or mean is None or var is None:
        return None
    eps = named.get("eps", 1e-5)
    images, arms = parts
    return (
        func(images, mean, var, weight, bias, eps=eps),
        func(arms, torch.zeros_like(mean), var, weight, None, eps=eps),
    )


def _layer(func: Function, whole: Tensor, parts: Parts, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Parts | None:
    """Convolutions and fully connected layers: the arms without the bias."""
    names = ("weight", "bias")
    named = dict(zip(names, args[1:3], strict=False)) | {name: kwargs[name] for name in names if name in kwargs}
    rest, others = args[3:], {name: value for name, value in kwargs.items() if name not in names}
    if not args or args[0] is not whole or (func is not functional.linear and named["weight"].dim() != whole.dim()):
        return None
    images, arms = parts
    return (
        func(images, named["weight"], named.get("bias"), *rest, **others),
        func(arms, named["weight"], None, *rest, **others),
    )


def _product(
    func: Function, whole: Tensor, parts: Parts, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Parts | None:
    matrix = len(args) == 2 and isinstance(args[1], Tensor) and args[1].dim() == 2
    return _same(func, whole, parts, args, kwargs) if matrix and whole.dim() >= 2 else None


def _named(*names: str) -> Iterator[Function]:
    """The functions and the methods of these names."""
    for name in names:
        yield from (getattr(owner, name) for owner in (torch, Tensor) if hasattr(owner, name))


def _attributes(*names: str) -> Iterator[Function]:
    for name in names:
        yield getattr(Tensor, name).__get__


_CHANGING = {
    "add": ("add_", "__iadd__"),
    "sub": ("sub_", "subtract_", "__isub__"),
    "mul": ("mul_", "multiply_", "__imul__"),
    "div": ("div_", "divide_", "true_divide_", "__itruediv__"),
}
_KEEPING = {
    "add": ("add", "__add__", "__radd__"),
    "sub": ("sub", "subtract", "__sub__"),
    "rsub": ("rsub", "__rsub__"),
    "mul": ("mul", "multiply", "__mul__", "__rmul__"),
    "div": ("div", "divide", "true_divide", "__truediv__"),
}
_LAYERS = (torch.conv1d, torch.conv2d, torch.conv3d, functional.linear)
_POOLS = (
    functional.avg_pool1d,
    functional.avg_pool2d,
    functional.avg_pool3d,
    functional.adaptive_avg_pool1d,
    functional.adaptive_avg_pool2d,
    functional.adaptive_avg_pool3d,
    functional.interpolate,
)

# Those that change their first argument in place.
IN_PLACE = frozenset(func for names in _CHANGING.values() for func in _named(*names))
# Their sums go on as one batch: what follows is as large for the parts as it is for that.
ENDINGS = frozenset((*_LAYERS, *_named("matmul", "mm", "__matmul__")))
RULES: dict[Function, Rule] = {
    **dict.fromkeys(_named("neg", "negative", "__neg__", "permute", "transpose", "movedim", "clone"), _same),
    **dict.fromkeys(_named("contiguous", "to", "float", "double"), _same),
    **dict.fromkeys(_POOLS, _same),
    **dict.fromkeys(_named("flip"), _flipped),
    **dict.fromkeys(_named("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze"), _reshaped),
    **{func: partial(_arithmetic, name) for name, names in _KEEPING.items() for func in _named(*names)},
    **{func: partial(_arithmetic, name) for name, names in _CHANGING.items() for func in _named(*names)},
    **dict.fromkeys(_named("matmul", "mm", "__matmul__"), _product),
    **dict.fromkeys(_LAYERS, _layer),
    Tensor.__getitem__: _indexed,
    functional.pad: _padded,
    functional.batch_norm: _normalised,
}
# They neither change a tensor nor hand on its memory.
HARMLESS = frozenset(
    (
        *_attributes("shape", "dtype", "device", "ndim", "layout", "is_cuda", "requires_grad"),
        *_named("size", "dim", "numel", "nelement", "stride", "storage_offset", "is_contiguous", "element_size"),
        *_named("is_floating_point", "is_complex", "__len__", "get_device", "ndimension"),
        *_named("min", "max", "amin", "amax", "mean", "sum", "isnan", "isinf", "isfinite", "equal", "allclose"),
    )
)
# Those by which a network can find how its own output depends on its input.
EXPOSING = frozenset(
    (
        torch.autograd.grad,
        torch.autograd.backward,
        *_named("retain_grad", "register_hook", "requires_grad_", "backward"),
        *_attributes("grad"),
        Tensor.requires_grad.__set__,  # type: ignore[attr-defined]
    )
)
