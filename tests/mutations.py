"""Damaging good files: bytes changed, moved, repeated, cut and spliced, and lengths that lie."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from random import Random

LARGEST = 200_000
EXTREMES = (0, 1, -1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, -(2**63))


def mutate(content: bytes, random: Random, others: Sequence[bytes] = ()) -> bytes:
    """``content`` with one to eight random changes; now and then a part of one of ``others`` gets into it."""
    changed = bytearray(content)
    for _ in range(random.choice((1, 1, 1, 2, 3, 8))):
        change = random.choice(CHANGES)
        change(changed, random)
        if others and random.random() < 0.05:
            _splice(changed, random, random.choice(others))
    return bytes(changed[:LARGEST])


def _span(content: bytearray, random: Random, longest: int = 64) -> slice:
    start = random.randrange(len(content) + 1)
    return slice(start, min(len(content), start + 1 + random.randrange(longest)))


def _flip(content: bytearray, random: Random) -> None:
    if content:
        content[random.randrange(len(content))] ^= 1 << random.randrange(8)


def _set(content: bytearray, random: Random) -> None:
    if content:
        content[random.randrange(len(content))] = random.choice((0, 1, 0x7F, 0x80, 0xFF, random.randrange(256)))


def _delete(content: bytearray, random: Random) -> None:
    del content[_span(content, random)]


def _repeat(content: bytearray, random: Random) -> None:
    part = bytes(content[_span(content, random)])
    place = random.randrange(len(content) + 1)
    content[place:place] = part * random.choice((1, 1, 2, 50))


def _insert(content: bytearray, random: Random) -> None:
    place = random.randrange(len(content) + 1)
    content[place:place] = random.randbytes(1 + random.randrange(32))


def _cut(content: bytearray, random: Random) -> None:
    del content[random.randrange(len(content) + 1) :]


def _extend(content: bytearray, random: Random) -> None:
    content += random.choice((b"\0" * 64, random.randbytes(16), bytes(content[:256])))


def _number(content: bytearray, random: Random) -> None:
    """A number such as lengths are, in one of the encodings that formats use."""
    value = random.choice(EXTREMES)
    code = random.choice(("<H", "<I", "<Q", ">I"))
    encoded = struct.pack(code, value & (256 ** struct.calcsize(code) - 1))
    if random.random() < 0.4:
        encoded = _varint(value & (2**64 - 1))
    place = random.randrange(len(content) + 1)
    content[place : place + len(encoded)] = encoded


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])


def _digits(content: bytearray, random: Random) -> None:
    """Another number in text, such as the header of a safetensors file."""
    places = [place for place, byte in enumerate(content[:4096]) if 0x30 <= byte <= 0x39]
    if places:
        place = random.choice(places)
        content[place : place + 1] = random.choice((b"9", b"0", b"-1", b"1e9", b"99999999999", b"null", b"[[[[", b'"'))


def _splice(content: bytearray, random: Random, other: bytes) -> None:
    part = bytearray(other)[_span(bytearray(other), random, 4096)]
    place = random.randrange(len(content) + 1)
    content[place : place + random.choice((0, len(part)))] = part


CHANGES: tuple[Callable[[bytearray, Random], None], ...] = (
    _flip,
    _flip,
    _set,
    _delete,
    _repeat,
    _insert,
    _cut,
    _extend,
    _number,
    _number,
    _digits,
)
