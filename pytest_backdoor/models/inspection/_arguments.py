"""Arguments of the calls in a pickle of weights, taken for what they must be."""

from __future__ import annotations

from ._dtypes import MOST_DIMENSIONS, STORAGES, TYPES, ElementType
from ._globals import DTYPES, STORAGE_CLASSES
from ._values import Dictionary, Global


class MismatchError(Exception):
    """Sizes do not agree; the text says how the sentence goes on that begins with "holds a tensor"."""


def natural(value: object) -> int:
    """An integer that is not negative. Raises TypeError, MismatchError."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError
    if value < 0:
        raise MismatchError("with a negative size")
    return value


def naturals(values: object) -> tuple[int, ...]:
    """One for each of not too many dimensions. Raises TypeError, MismatchError."""
    if not isinstance(values, (tuple, list)) or len(values) > MOST_DIMENSIONS:
        raise TypeError
    return tuple(natural(value) for value in values)


def storage_type(kind: object) -> ElementType:
    """What a class of storages holds. Raises TypeError."""
    if not isinstance(kind, Global) or kind.path not in STORAGE_CLASSES:
        raise TypeError
    name = kind.path.rpartition(".")[2]
    if name not in STORAGES:  # TypedStorage, which does not say of what
        raise TypeError
    return TYPES[STORAGES[name]]


def element_type(value: object) -> ElementType:
    """What a ``torch.dtype`` means. Raises TypeError."""
    if not isinstance(value, Global) or value.path not in DTYPES:
        raise TypeError
    return TYPES[value.path.removeprefix("torch.")]


def no_hooks(hooks: object) -> None:
    """Hooks of a tensor, of which there must be none, also later. Raises TypeError."""
    if hooks is None:
        return
    if not isinstance(hooks, Dictionary) or hooks.size:
        raise TypeError
    hooks.fixed = True
