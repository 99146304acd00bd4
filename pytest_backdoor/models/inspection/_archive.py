"""Judging a zip archive by its bytes: whether all readers see the same members in it, and how large they become.

torch reads archives with miniz: it trusts the central directory, ignores checksums and names that differ in letter case
only, and inflates what it is told to. Others read local headers, verify checksums or take the first of two equal names.
What they would disagree on is refused here. Archives that torch.save writes pass: members one after the other from the
first byte, each with its sizes behind its data, then the directory, then an end record of each kind.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from ._problems import Problems, shown

MOST_MEMBERS = 100_000
LARGEST_DIRECTORY = 64 << 20
# Of one member and of all of them together; torch.save does not compress at all.
LARGEST_RATIO = 8
ALWAYS_ALLOWED = 1 << 20
STORED, DEFLATED = 0, 8
ENCRYPTED, SIZES_BEHIND, UTF8 = 0x1, 0x8, 0x800
KNOWN_FLAGS = SIZES_BEHIND | UTF8 | 0x6  # 0x6: how hard the compressor tried
# An extra field with another name, which some readers take (Python 3.13 and later) and others, torch too, do not.
UNICODE_PATH = 0x7075
UNKNOWN16, UNKNOWN32 = 0xFFFF, 0xFFFFFFFF
END, END64, LOCATOR64, ENTRY, LOCAL, BEHIND = (
    b"PK\x05\x06",
    b"PK\x06\x06",
    b"PK\x06\x07",
    b"PK\x01\x02",
    b"PK\x03\x04",
    b"PK\x07\x08",
)
END_SIZE, END64_SIZE, LOCATOR64_SIZE, ENTRY_SIZE, LOCAL_SIZE = 22, 56, 20, 46, 30
DRIVE = re.compile("[A-Za-z]:")
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
        header = directory[position : position + ENTRY_SIZE]
        if len(header) < ENTRY_SIZE or header[:4] != ENTRY:
            raise BadArchiveError("is an archive with a damaged directory")
        flags, method, _, _, crc, packed, size, name_size, extra_size, comment_size, disk = struct.unpack(
            "<HHHHIIIHHHH", header[8:36]
        )
        attributes, offset = struct.unpack("<II", header[38:46])
        name_start = position + ENTRY_SIZE
        name = directory[name_start : name_start + name_size]
        extra = directory[name_start + name_size : name_start + name_size + extra_size]
        position = name_start + name_size + extra_size + comment_size
        if comment_size or disk:
            raise BadArchiveError("is an archive in several parts or with comments")
        size, packed, offset = _sizes64(extra, size, packed, offset)
        members.append(
            Member(
                name=_name(name),
                flags=flags,
                method=method,
                crc=crc,
                packed=packed,
                size=size,
                offset=offset,
                link=(attributes >> 16) & FILE_KIND == LINK,
            )
        )
    if position != len(directory):
        raise BadArchiveError("is an archive with a directory that holds more than its members")
    return tuple(members)


def _sizes64(extra: bytes, *values: int) -> tuple[int, int, int]:
    """Sizes and offset of more than 32 bits stand in an extra field, for those that are all ones only."""
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


def _name(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise BadArchiveError(f"holds a member whose name is no text: {shown(raw)}") from None


def judge_archive(content: bytes, directory: Directory, problems: Problems) -> dict[str, memoryview]:
    """Add what is wrong with an archive; give the content of each member that can be read, by name.

    What is stored without compression is not copied. What is compressed is unpacked within the limits only.
    """
    members = directory.members
    _judge_names(members, problems)
    _judge_sizes(content, members, problems)
    if problems.found:
        return {}
    view = memoryview(content)
    unpacked: dict[str, memoryview] = {}
    expected = 0
    unchecked = all(member.crc == 0 for member in members)  # torch.serialization.set_crc32_options(False)
    for member in sorted(members, key=lambda member: member.offset):
        try:
            if member.offset != expected:
                raise BadArchiveError("holds bytes that belong to no member")
            start, same = _data_start(content, member)
            if not same:
                problems.add("ambiguous-archive", f"describes a member in two ways: {shown(member.name)}")
            expected = _behind(content, member, start + member.packed)
            if expected > directory.start:
                raise BadArchiveError(f"holds a member that reaches into the directory: {shown(member.name)}")
            data = _unpacked(view[start : start + member.packed], member)
        except BadArchiveError as error:
            problems.add("ambiguous-archive", str(error))
            return unpacked
        if not unchecked and zlib.crc32(data) != member.crc:
            problems.add(
                "ambiguous-archive",
                f"holds a member with a wrong checksum: {shown(member.name)}; torch reads it, others do not",
            )
        unpacked[member.name] = data
    if expected != directory.start:
        problems.add("ambiguous-archive", "holds bytes that belong to no member")
    return unpacked


def _judge_names(members: tuple[Member, ...], problems: Problems) -> None:
    seen: set[str] = set()
    for member in members:
        name = member.name
        parts = name.split("/")
        odd = (
            "\\" in name
            or not name.isprintable()
            or any(part in ("", ".", "..") for part in parts)
            or DRIVE.match(name)
        )
        if odd or member.link:
            kind = "that is a link" if member.link else "whose name leads elsewhere"
            problems.add("ambiguous-archive", f"holds a member {kind}: {shown(name)}")
        if name.casefold() in seen:
            problems.add("ambiguous-archive", f"holds two members of one name: {shown(name)}")
        seen.add(name.casefold())
        if member.flags & ENCRYPTED:
            problems.add("ambiguous-archive", f"holds an encrypted member: {shown(name)}")
        elif member.flags & ~KNOWN_FLAGS or member.method not in (STORED, DEFLATED):
            problems.add("ambiguous-archive", f"holds a member packed in an unusual way: {shown(name)}")
        elif member.method == STORED and member.size != member.packed:
            problems.add("ambiguous-archive", f"holds a member of two sizes: {shown(name)}")


def _judge_sizes(content: bytes, members: tuple[Member, ...], problems: Problems) -> None:
    for member in members:
        if member.size > LARGEST_RATIO * member.packed + ALWAYS_ALLOWED:
            problems.add(
                "archive-too-large",
                f"holds a member of {member.packed} bytes that becomes {member.size} bytes: {shown(member.name)}",
            )
    total = sum(member.size for member in members)
    if total > LARGEST_RATIO * len(content) + ALWAYS_ALLOWED:
        problems.add("archive-too-large", f"has {len(content)} bytes and unpacks to {total} bytes")


def _data_start(content: bytes, member: Member) -> tuple[int, bool]:
    """Where the data of a member begin, behind its local header, and whether that agrees with the directory."""
    header = content[member.offset : member.offset + LOCAL_SIZE]
    if len(header) < LOCAL_SIZE or header[:4] != LOCAL:
        raise BadArchiveError(f"holds no member where its directory says: {shown(member.name)}")
    flags, method, _, _, crc, packed, size, name_size, extra_size = struct.unpack("<HHHHIIIHH", header[6:])
    start = member.offset + LOCAL_SIZE + name_size
    name = content[member.offset + LOCAL_SIZE : start]
    same: bool = (flags, method, name) == (member.flags, member.method, member.name.encode())
    pairs = ((crc, member.crc), (packed, member.packed), (size, member.size))
    if flags & SIZES_BEHIND:
        same &= all(value in (0, UNKNOWN32, exact) for value, exact in pairs)
    else:
        same &= crc == member.crc and all(value in (UNKNOWN32, exact) for value, exact in pairs[1:])
    return start + extra_size, same


def _behind(content: bytes, member: Member, end: int) -> int:
    """The position behind a member whose data stop at ``end``: its checksum and sizes may follow once more."""
    if not member.flags & SIZES_BEHIND:
        return end
    for mark in (BEHIND, b""):
        for layout in ("<III", "<IQQ"):
            values = (member.crc, member.packed, member.size)
            if layout == "<III" and max(values) > UNKNOWN32:
                continue
            record = mark + struct.pack(layout, *values)
            if content[end : end + len(record)] == record:
                return end + len(record)
    if member.size == 0:
        return end
    raise BadArchiveError(f"describes a member in two ways: {shown(member.name)}")


def _unpacked(data: memoryview, member: Member) -> memoryview:
    if member.method == STORED:
        return data
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        unpacked = unpacker.decompress(data, member.size + 1)
    except zlib.error:
        raise BadArchiveError(f"holds a damaged member: {shown(member.name)}") from None
    if len(unpacked) != member.size or not unpacker.eof or unpacker.unused_data or unpacker.unconsumed_tail:
        raise BadArchiveError(f"holds a member that does not unpack to its size: {shown(member.name)}")
    return memoryview(unpacked)
