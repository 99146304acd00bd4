"""Reading the central directory of a zip archive: the one table of contents that all readers can agree on."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from ._problems import shown

MOST_MEMBERS = 100_000
LARGEST_DIRECTORY = 64 << 20
# An extra field with another name, which some readers take (Python 3.13 and later) and others, torch too, do not.
UNICODE_PATH = 0x7075
UNKNOWN16, UNKNOWN32 = 0xFFFF, 0xFFFFFFFF
END, END64, LOCATOR64, ENTRY = b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07", b"PK\x01\x02"
END_SIZE, END64_SIZE, LOCATOR64_SIZE, ENTRY_SIZE = 22, 56, 20, 46
LINK, FILE_KIND = 0o120000, 0o170000

Read = Callable[[int, int], bytes]


class BadArchiveError(Exception):
    """The archive cannot be read; the text says how the sentence goes on that begins with its name."""


@dataclass(frozen=True, kw_only=True)
class Member:
    """One member, as the central directory describes it; ``size`` is its size when it is unpacked."""

    name: str
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    offset: int
    link: bool


@dataclass(frozen=True, kw_only=True)
class Directory:
    """The central directory: its ``members`` in order, and the byte at which it begins."""

    members: tuple[Member, ...]
    start: int


def read_directory(read: Read, size: int) -> Directory:
    """The directory of an archive of ``size`` bytes; ``read(offset, length)`` gives its bytes.

    Raises BadArchiveError where it is not exactly one directory that ends where its end record begins.
    """
    if size < END_SIZE or (end := read(size - END_SIZE, END_SIZE))[:4] != END:
        raise BadArchiveError("is an archive without an end record at its very end")
    disk, first_disk, here, count, length, start, comment = struct.unpack("<4HIIH", end[4:])
    if disk or first_disk or here != count or comment:
        raise BadArchiveError("is an archive in several parts or with a comment")
    count, length, start, stop = _end64(read, size - END_SIZE, (count, length, start))
    if start + length != stop:
        raise BadArchiveError("is an archive whose directory does not lie where its end record says")
    if count > MOST_MEMBERS or length > LARGEST_DIRECTORY:
        raise BadArchiveError(f"is an archive of {count} members, more than {MOST_MEMBERS}")
    return Directory(members=_entries(read(start, length), count), start=start)


def directory_of(content: bytes) -> Directory:
    """As ``read_directory``, of an archive that is in memory."""
    return read_directory(lambda offset, length: content[offset : offset + length], len(content))


def _end64(read: Read, end: int, found: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Count of members, length and start of the directory, and where it must stop, from the end record at ``end``."""
    unknown = (UNKNOWN16, UNKNOWN32, UNKNOWN32)
    locator = read(end - LOCATOR64_SIZE, LOCATOR64_SIZE) if end >= LOCATOR64_SIZE + END64_SIZE else b""
    if locator[:4] != LOCATOR64:
        if any(value == top for value, top in zip(found, unknown, strict=True)):
            raise BadArchiveError("is an archive whose end record points to one that is not there")
        return *found, end
    disk, position, disks = struct.unpack("<IQI", locator[4:])
    stop = end - LOCATOR64_SIZE - END64_SIZE
    record = read(stop, END64_SIZE)
    if position != stop or record[:4] != END64 or disk or disks > 1:
        raise BadArchiveError("is an archive with an end record that its readers find in different places")
    length_left, _, _, disk, first_disk, here, count, length, start = struct.unpack("<QHHIIQQQQ", record[4:])
    exact = (count, length, start)
    agree = all(value in (top, one) for value, top, one in zip(found, unknown, exact, strict=True))
    if length_left != END64_SIZE - 12 or disk or first_disk or here != count or not agree:
        raise BadArchiveError("is an archive with two end records that differ")
    return *exact, stop


def _entries(directory: bytes, count: int) -> tuple[Member, ...]:
    members, position = [], 0
    for _ in range(count):
        member, position = _entry(directory, position)
        members.append(member)
    if position != len(directory):
        raise BadArchiveError("is an archive with a directory that holds more than its members")
    return tuple(members)


def _entry(directory: bytes, position: int) -> tuple[Member, int]:
    """The member described at ``position``, and the position behind it."""
    header = directory[position : position + ENTRY_SIZE]
    if len(header) < ENTRY_SIZE or header[:4] != ENTRY:
        raise BadArchiveError("is an archive with a damaged directory")
    flags, method, _, _, crc, packed, size, name_size, extra_size, comment_size, disk = struct.unpack(
        "<HHHHIIIHHHH", header[8:36]
    )
    attributes, offset = struct.unpack("<II", header[38:46])
    if comment_size or disk:
        raise BadArchiveError("is an archive in several parts or with comments")
    name_end = position + ENTRY_SIZE + name_size
    extra = directory[name_end : name_end + extra_size]
    size, packed, offset = _sizes64(extra, size, packed, offset)
    member = Member(
        name=_name(directory[position + ENTRY_SIZE : name_end]),
        flags=flags,
        method=method,
        crc=crc,
        packed=packed,
        size=size,
        offset=offset,
        link=(attributes >> 16) & FILE_KIND == LINK,
    )
    return member, name_end + extra_size


def _sizes64(extra: bytes, *values: int) -> tuple[int, int, int]:
    """Sizes and offset of more than 32 bits stand in an extra field, for those that are all ones only."""
    wide = _wide_sizes(extra)
    exact = []
    for value in values:
        if value == UNKNOWN32:
            if len(wide) < 8:
                raise BadArchiveError("is an archive that leaves out a size")
            value, wide = int.from_bytes(wide[:8], "little"), wide[8:]
        exact.append(value)
    if wide:
        raise BadArchiveError("is an archive that gives one size twice")
    return exact[0], exact[1], exact[2]


def _wide_sizes(extra: bytes) -> bytes:
    """The content of the extra field of sizes, empty if there is none."""
    position, wide = 0, b""
    while position + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, position)
        if kind == UNICODE_PATH:
            raise BadArchiveError("is an archive that gives one name twice")
        if kind == 1:
            if wide:
                raise BadArchiveError("is an archive that gives one size twice")
            wide = extra[position + 4 : position + 4 + length]
        position += 4 + length
    return wide


def _name(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise BadArchiveError(f"holds a member whose name is no text: {shown(raw)}") from None
