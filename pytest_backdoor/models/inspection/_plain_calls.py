"""Judging the calls of a pickle of weights that make plain values, such as ordered dicts and shapes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from ._arguments import naturals
from ._values import Dictionary, Opaque, Tensor

BYTE_CODECS = ("latin1", "latin-1", "utf-8", "ascii")


def _ordered(items: object = ()) -> Dictionary:
    if not isinstance(items, (list, tuple)):
        raise TypeError
    for item in items:  # as Python 2 wrote it
        if not isinstance(item, (list, tuple)) or len(item) != 2 or not isinstance(item[0], (str, bytes, int)):
            raise TypeError
        if isinstance(item[1], Tensor) and isinstance(item[0], str):
            item[1].name = item[1].name or item[0]
    return Dictionary(size=len(items))


def _counter(items: object = None) -> Dictionary:
    if not (items is None or isinstance(items, Dictionary)):
        raise TypeError
    return Dictionary()


def _set(items: object = ()) -> Opaque:
    """A set of plain values: hashing containers of containers may take forever."""
    if not isinstance(items, (list, tuple)) or not all(isinstance(item, (str, bytes, int, float)) for item in items):
        raise TypeError
    return Opaque("set")


def _size(sizes: object = ()) -> tuple[int, ...]:
    return naturals(sizes)


def _opaque(what: str, *kinds: type | tuple[type, ...], least: int = 0) -> Callable[..., object]:
    """A call of at most as many arguments as ``kinds``, at least ``least``, each of its kind."""

    def make(*arguments: object) -> Opaque:
        if not least <= len(arguments) <= len(kinds):
            raise TypeError
        if not all(isinstance(argument, kind) for argument, kind in zip(arguments, kinds, strict=False)):
            raise TypeError
        return Opaque(what)

    return make


def _encode(text: object, codec: object) -> Opaque:
    """How protocol 2 writes bytes; codecs with a life of their own (compression, imports) are refused."""
    if not isinstance(text, (str, Opaque)) or codec not in BYTE_CODECS:
        raise TypeError
    return Opaque("bytes")


# By the name that the pickle calls. Each raises TypeError or ValueError for arguments that torch.save never writes.
PLAIN_CALLS: Mapping[str, Callable[..., object]] = MappingProxyType(
    {
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
)
