"""What a pickle is made of when nothing of it is run: names and shapes instead of objects."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from ._dtypes import ElementType


class BrokenError(Exception):
    """The stream cannot be read on; the text says how the sentence ends that begins with "is a pickle that"."""


@dataclass(frozen=True, slots=True)
class Global:
    """Something that is looked up by name, ``module.name``."""

    path: str


@dataclass(slots=True, eq=False)
class Dictionary:
    """A dict, OrderedDict or Counter; ``size``: how many items were put in. ``fixed``: it must stay as it is."""

    size: int = 0
    fixed: bool = False


@dataclass(slots=True, eq=False)
class Opaque:
    """A value that no check needs to know more of; ``what`` it is."""

    what: str


@dataclass(slots=True, eq=False)
class Storage:
    """The memory behind tensors.

    ``key``: its name in the file. ``size``: in bytes. ``used``: the tensors on it. ``whole``: the storage that it is
    part of, from byte ``offset`` on; None if it is one of its own.
    """

    key: str
    dtype: ElementType
    size: int
    whole: Storage | None = None
    offset: int = 0
    used: list[Tensor] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Tensor:
    """A part of a storage, from byte ``start`` to before ``stop``; ``storage``: None if it has none.

    ``numel``: None where no check needs it. ``name``: its key in a dict, empty if it is in none.
    """

    dtype: ElementType | None = None
    numel: int | None = None
    storage: Storage | None = None
    start: int = 0
    stop: int = 0
    name: str = ""


class Builder(Protocol):
    """What a pickle asks for beyond plain containers; each method judges and gives back what takes the place of it."""

    def call(self, function: object, arguments: object) -> object:
        """REDUCE, and every other opcode that calls something."""

    def build(self, target: object, state: object) -> None:
        """BUILD: ``target`` takes over a state."""

    def persistent(self, identifier: object) -> object:
        """BINPERSID: an object from outside the pickle."""


class Symbols:
    """A builder that judges nothing, for finding names only."""

    def call(self, function: object, arguments: object) -> object:
        """See ``Builder.call``."""
        return Opaque("result of a call")

    def build(self, target: object, state: object) -> None:
        """See ``Builder.build``."""

    def persistent(self, identifier: object) -> object:
        """See ``Builder.persistent``."""
        return Opaque("object from outside")
