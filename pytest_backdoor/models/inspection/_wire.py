"""Walking through a protobuf file without building it, so that nothing hostile is allocated or copied.

The wire format is that of https://protobuf.dev/programming-guides/encoding/. Stricter than its readers, on purpose:
what two of them could take for different things (a single value given twice, a group, a known field of another type)
is refused here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

# Readers of protobuf stop at this depth themselves.
MAX_DEPTH = 100
# What a reader that builds the messages needs grows with their number: upb takes 80 times the bytes of a file of
# empty ones. The largest exports of image classifiers have some ten thousand messages.
MAX_MESSAGES = 1_000_000
MAX_FIELDS = 4_000_000
MAX_UNKNOWN_BYTES = 4096
VARINT, FIXED64, LENGTH_DELIMITED, FIXED32 = 0, 1, 2, 5
# google.protobuf.descriptor.FieldDescriptor.TYPE_*, by how a value is written.
_WIRES = {1: FIXED64, 2: FIXED32, 6: FIXED64, 7: FIXED32, 9: LENGTH_DELIMITED, 11: LENGTH_DELIMITED}
_WIRES |= {12: LENGTH_DELIMITED, 15: FIXED32, 16: FIXED64}
# Numbers of 32 bits at most (int32, bool, uint32, enum, sint32): readers drop the bits above.
_NARROW = frozenset({5, 8, 13, 14, 17})
# Some readers drop the bits of a tag above 32, too, and so find another field.
MAX_FIELD_NUMBER = (1 << 29) - 1

Span = tuple[int, int]


class MalformedError(Exception):
    """The bytes are no such message; the text continues a sentence that begins with the file."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a kind of message.

    ``child``: the kind of message that it holds, None for a plain value. ``narrow``: a number of 32 bits at most.
    """

    name: str
    wire: int
    repeated: bool
    child: Kind | None
    narrow: bool = False


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of message: its name and its fields by number."""

    name: str
    fields: dict[int, Field]


@dataclass(slots=True)
class Message:
    """One message of the file.

    ``values``: by field number what the file gives, in its order: numbers for varints, else the span of bytes in the
    file. ``scope``: whatever whoever walks puts there; the messages within this one inherit it.
    """

    kind: Kind
    values: dict[int, list[Any]]
    content: bytes
    scope: Any = None

    def integer(self, number: int, default: int = 0) -> int:
        """A single number, signed."""
        values = self.values.get(number)
        return signed(values[0]) if values else default

    def raw(self, number: int) -> bytes:
        """The bytes of a single short text."""
        spans = self.values.get(number)
        return self.content[spans[0][0] : spans[0][1]] if spans else b""

    def text(self, number: int) -> str:
        """A single short text; raises MalformedError if it is no UTF-8."""
        try:
            return self.raw(number).decode()
        except UnicodeDecodeError:
            raise MalformedError(f"the {self.kind.fields[number].name} of a {self.kind.name} is no text") from None

    def children(self, number: int, reader: Reader) -> Iterator[Message]:
        """The messages of one field, looked at alone."""
        child = self.kind.fields[number].child
        assert child is not None
        for start, end in self.values.get(number, ()):
            yield reader.message(start, end, child)


@dataclass(slots=True)
class Reader:
    """Reads messages of ``content`` and counts what it read."""

    content: bytes
    fields: int = 0
    messages: int = 0
    unknown: int = 0
    _pending: list[tuple[int, int, Kind, int, Any]] = field(default_factory=list)

    def walk(self, kind: Kind) -> Iterator[Message]:
        """Every message of the file, each before those within it. Raises MalformedError."""
        self._pending = [(0, len(self.content), kind, 1, None)]
        while self._pending:
            start, end, kind, depth, scope = self._pending.pop()
            message = self.message(start, end, kind, scope)
            yield message
            for number, values in message.values.items():
                known = kind.fields.get(number)
                if known is not None and known.child is not None:
                    self._push(values, known.child, depth + 1, message.scope)
        if self.unknown > MAX_UNKNOWN_BYTES:
            raise MalformedError(f"{self.unknown} of its bytes are in no field that is known")

    def _push(self, spans: list[Span], kind: Kind, depth: int, scope: Any) -> None:
        self.messages += len(spans)
        if depth > MAX_DEPTH:
            raise MalformedError(f"it is nested more than {MAX_DEPTH} messages deep")
        if self.messages > MAX_MESSAGES:
            raise MalformedError(f"it has more than {MAX_MESSAGES:,} parts")
        self._pending.extend((start, end, kind, depth, scope) for start, end in reversed(spans))

    def message(self, start: int, end: int, kind: Kind, scope: Any = None) -> Message:
        """The message in ``content[start:end]``. Raises MalformedError."""
        values: dict[int, list[Any]] = {}
        position, content = start, self.content
        while position < end:
            before = position
            tag, position = self._varint(position, end)
            number, wire = tag >> 3, tag & 7
            known = kind.fields.get(number)
            value: Any
            if number > MAX_FIELD_NUMBER:
                raise MalformedError(f"byte {before:,} begins a field of a number that no field can have")
            if wire == VARINT:
                value, position = self._varint(position, end)
                if known is not None and known.narrow and not -(1 << 31) <= signed(value) < 1 << 32:
                    raise MalformedError(f"the {known.name} of a {kind.name} is larger than it can be")
            elif wire == LENGTH_DELIMITED:
                length, position = self._varint(position, end)
                value = (position, position + length)
                position += length
            elif wire in (FIXED32, FIXED64):
                value = (position, position + (4 if wire == FIXED32 else 8))
                position = value[1]
            else:
                raise MalformedError(f"byte {before:,} begins no field of a {kind.name}")
            if position > end or number == 0:
                what = "it ends in the middle of" if position > len(content) else f"byte {before:,} begins no field of"
                raise MalformedError(f"{what} a {kind.name}")
            self._count(known, wire, position - before, kind)
            found = values.setdefault(number, [])
            if found and known is not None and not known.repeated:
                raise MalformedError(f"a {kind.name} gives its {known.name} twice, so readers may disagree")
            found.append(value)
        return Message(kind, values, content, scope)

    def _count(self, known: Field | None, wire: int, size: int, kind: Kind) -> None:
        self.fields += 1
        if self.fields > MAX_FIELDS:
            raise MalformedError(f"it has more than {MAX_FIELDS:,} fields")
        if known is None:
            self.unknown += size
        elif wire != known.wire and not (known.repeated and wire == LENGTH_DELIMITED):
            raise MalformedError(f"the {known.name} of a {kind.name} has a wrong type")

    def _varint(self, position: int, end: int) -> tuple[int, int]:
        content = self.content
        value = 0
        for shift in range(0, 70, 7):
            if position >= end:
                raise MalformedError("it ends in the middle of a number")
            byte = content[position]
            position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & 0xFFFFFFFFFFFFFFFF, position
        raise MalformedError(f"the number at byte {position:,} is too long")

    def packed(self, span: Span, most: int) -> list[int]:
        """The numbers in a span of varints. Raises MalformedError, also if there are more than ``most``."""
        position, end = span
        values: list[int] = []
        while position < end and len(values) <= most:
            value, position = self._varint(position, end)
            values.append(value)
        if position < end:
            raise MalformedError(f"it has a list of more than {most} numbers where few belong")
        return values


def signed(value: int) -> int:
    """A varint as the signed 64-bit number that it means."""
    return value - (1 << 64) if value >> 63 else value


@cache
def model_kind() -> Kind:
    """The messages of an ONNX model as the installed onnx knows them."""
    import onnx

    return _kind(onnx.ModelProto.DESCRIPTOR, {})


def _kind(descriptor: Any, known: dict[str, Kind]) -> Kind:
    if descriptor.full_name not in known:
        kind = known[descriptor.full_name] = Kind(descriptor.name, {})
        for part in descriptor.fields:
            child = None if part.message_type is None else _kind(part.message_type, known)
            kind.fields[part.number] = Field(
                part.name, _WIRES.get(part.type, VARINT), _is_repeated(part), child, part.type in _NARROW
            )
    return known[descriptor.full_name]


def _is_repeated(part: Any) -> bool:
    # Releases of protobuf have one, the other or both, and warn of the older one.
    repeated = getattr(part, "is_repeated", None)
    return bool(part.label == part.LABEL_REPEATED) if repeated is None else bool(repeated)
