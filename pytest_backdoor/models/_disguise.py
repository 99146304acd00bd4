"""What a file would be to a loader that asks for no magic number, whatever else its first bytes look like.

``sniff_format`` gives one answer, the first that fits; a file may be made so that a magic number, a text or an unknown
field of protobuf comes first and a loader takes it for a model all the same. Nothing such is ever opened here, but a
search for models must see it.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

from ._format import HEAD_BYTES, MAX_SAFETENSORS_HEADER, STEPS_OF_HEAD, sniff_stream
from .inspection._pickle import read_pickle
from .inspection._pickle_state import PickleReading
from .inspection._values import Symbols

# Bytes of a file that begins like an old pickle with a long string, and so cannot be told by its head.
LONGEST_LOOK, STEPS_OF_ALL = 64 << 20, 100_000
# Fields of protobuf that are stepped over; whatever has more of them than that is taken for a model.
MOST_FIELDS = 100_000
GRAPH, PARTS_OF_GRAPH = 7, frozenset({1, 5, 11, 12})
VARINT, FIXED64, LENGTH_DELIMITED, GROUP, END_GROUP, FIXED32 = range(6)
FIXED = {FIXED64: 8, FIXED32: 4}

Field = tuple[int, int, int, int]  # its number, its wire type, the bytes from and to that hold its value


class _NotProtobufError(Exception):
    pass


def loadable_as(stream: BinaryIO) -> str | None:
    """The model format of a seekable stream, of those in ``sniff_format``, or None if no loader takes it for a model.

    Memory of at most ``LONGEST_LOOK`` and a bounded number of steps, whatever the file holds.
    """
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    head = stream.read(HEAD_BYTES)
    if _is_safetensors(head, size):
        return "safetensors"
    if _is_pickle(head, stream):
        return "pickle"
    if _is_onnx(stream, size):
        return "onnx"
    return sniff_stream(stream)


def _is_safetensors(head: bytes, size: int) -> bool:
    """Readers of JSON take white space before the header's brace."""
    if len(head) < 10:
        return False
    (length,) = struct.unpack("<Q", head[:8])
    begin = head[8:].lstrip(b" \t\r\n")[:1]
    return 2 <= length <= min(MAX_SAFETENSORS_HEADER, size - 8) and begin in (b"{", b"")


def _is_pickle(head: bytes, stream: BinaryIO) -> bool:
    if head.startswith(b"PK\x03\x04"):
        return False
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return True
    reading = read_pickle(head, 0, Symbols(), STEPS_OF_HEAD)
    if _looks_up(reading, head) or reading.steps >= STEPS_OF_HEAD:
        return True
    # Did reading stop at the end of the head, and not at something that no pickle holds?
    if len(head) < HEAD_BYTES or not (reading.broken or "").endswith(("than the file", "without an end")):
        return False
    stream.seek(0)
    content = stream.read(LONGEST_LOOK)
    return _looks_up(read_pickle(content, 0, Symbols(), STEPS_OF_ALL), content)


def _looks_up(reading: PickleReading, content: bytes) -> bool:
    """Whether this names something, or might where only the inspection stops reading."""
    if reading.broken is None:
        return reading.steps > 2
    if "larger memo" in reading.broken and content[reading.end - 1 : reading.end] < b"\x10":  # no letter of a text
        return True
    return reading.steps > 2 and any(all(part.isidentifier() for part in name.split(".")) for name in reading.names)


def _is_onnx(stream: BinaryIO, size: int) -> bool:
    """Whether it is, to its last byte, fields of protobuf of which one is a graph."""
    try:
        graphs = [field for field in _fields(stream, 0, size) if field[:2] == (GRAPH, LENGTH_DELIMITED)]
        parts = [field for graph in graphs for field in _fields(stream, *graph[2:])]
    except _NotProtobufError:
        return False
    except OverflowError:
        return True
    return any(number in PARTS_OF_GRAPH and wire == LENGTH_DELIMITED for number, wire, _, _ in parts)


def _fields(stream: BinaryIO, start: int, stop: int) -> Iterator[Field]:
    """The fields between two bytes. Raises OverflowError if they are too many."""
    position, groups = start, 0
    for _ in range(MOST_FIELDS):
        if position >= stop:
            if groups:
                raise _NotProtobufError
            return
        tag, position = _varint(stream, position)
        number, wire = (tag & 0xFFFFFFFF) >> 3, tag & 7  # as readers do that drop higher bits
        begin = position
        if wire == VARINT:
            _, position = _varint(stream, position)
        elif wire == LENGTH_DELIMITED:
            length, begin = _varint(stream, position)
            position = begin + length
        elif wire in FIXED:
            position += FIXED[wire]
        elif wire in (GROUP, END_GROUP):
            groups += 1 if wire == GROUP else -1
        else:
            raise _NotProtobufError
        if number == 0 or position > stop or groups < 0:
            raise _NotProtobufError
        yield number, wire, begin, position
    raise OverflowError


def _varint(stream: BinaryIO, position: int) -> tuple[int, int]:
    stream.seek(position)
    value = 0
    for shift, byte in enumerate(stream.read(10)):
        value |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:
            return value, position + shift + 1
    raise _NotProtobufError
