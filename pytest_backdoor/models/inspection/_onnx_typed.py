"""The elements of an onnx.TensorProto where they are numbers of a field of their own, not raw bytes."""

from __future__ import annotations

from collections.abc import Iterator

from ._wire import Message

CONTINUED = bytes(range(0x80, 0x100))  # bytes of a varint that others follow


def typed_data(message: Message, number: int) -> bytes:
    """What the field ``number`` of numbers holds, packed or not, as it would be written packed."""
    return b"".join(_pieces(message, number))


def _pieces(message: Message, number: int) -> Iterator[bytes]:
    for value in message.values.get(number, ()):
        yield message.content[value[0] : value[1]] if isinstance(value, tuple) else _as_varint(value)


def _as_varint(value: int) -> bytes:
    written = bytearray()
    while value >= 0x80:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])


def varint_count(data: bytes) -> int | None:
    """How many varints ``data`` holds; None if it ends in the middle of one."""
    return None if data and data[-1] >= 0x80 else len(data.translate(None, CONTINUED))


def unpacked(data: bytes, width: int) -> memoryview:
    """The varints in ``data``, each below 2**16, as little-endian elements of ``width`` (1 or 2) bytes.

    Raises ValueError if one is larger.
    """
    import numpy as np

    stored = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(stored < 0x80)
    lengths = np.diff(ends, prepend=-1)
    if len(lengths) and lengths.max() > 3:
        raise ValueError("a number is too large")
    values = np.zeros(len(ends), np.uint32)
    for place in range(3):
        has = lengths > place
        first = ends[has] - lengths[has] + 1
        values[has] |= (stored[first + place].astype(np.uint32) & 0x7F) << (7 * place)
    if len(values) and values.max() >= 1 << (8 * width):
        raise ValueError("a number is too large")
    return memoryview(values.astype(f"<u{width}").tobytes())
