"""Judging a zip archive by its bytes: whether all readers see the same members in it, and how large they become.

torch reads archives with miniz: it trusts the central directory, ignores checksums and names that differ in letter case
only, and inflates what it is told to. Others read local headers, verify checksums or take the first of two equal names.
What they would disagree on is refused here. Archives that torch.save writes pass: members one after the other from the
first byte, each with its sizes behind its data, then the directory, then an end record of each kind.
"""

from __future__ import annotations

import struct
import zlib

from ._locations import DRIVE
from ._problems import Problems, shown
from ._zip_directory import UNKNOWN32, BadArchiveError, Directory, Member

# Of one member and of all of them together; torch.save does not compress at all.
LARGEST_RATIO = 8
ALWAYS_ALLOWED = 1 << 20
STORED, DEFLATED = 0, 8
ENCRYPTED, SIZES_BEHIND, UTF8 = 0x1, 0x8, 0x800
KNOWN_FLAGS = SIZES_BEHIND | UTF8 | 0x6  # 0x6: how hard the compressor tried
LOCAL, BEHIND = b"PK\x03\x04", b"PK\x07\x08"
LOCAL_SIZE = 30


def judge_archive(content: bytes, directory: Directory, problems: Problems) -> dict[str, memoryview]:
    """Add what is wrong with an archive; give the content of each member that can be read, by name.

    What is stored without compression is not copied. What is compressed is unpacked within the limits only.
    """
    seen: set[str] = set()
    for member in directory.members:
        _judge_name(member, problems)
        _judge_packing(member, problems)
        if member.name.casefold() in seen:
            problems.add("ambiguous-archive", f"holds two members of one name: {shown(member.name)}")
        seen.add(member.name.casefold())
    _judge_sizes(content, directory.members, problems)
    return {} if problems.found else _unpack_all(content, directory, problems)


def _unpack_all(content: bytes, directory: Directory, problems: Problems) -> dict[str, memoryview]:
    unpacked: dict[str, memoryview] = {}
    expected = 0
    unchecked = all(member.crc == 0 for member in directory.members)  # torch.serialization.set_crc32_options(False)
    for member in sorted(directory.members, key=lambda member: member.offset):
        try:
            if member.offset != expected:
                raise BadArchiveError("holds bytes that belong to no member")
            unpacked[member.name], expected = _read_member(content, member, directory.start, problems)
        except BadArchiveError as error:
            problems.add("ambiguous-archive", str(error))
            return unpacked
        if not unchecked and zlib.crc32(unpacked[member.name]) != member.crc:
            problems.add(
                "ambiguous-archive",
                f"holds a member with a wrong checksum: {shown(member.name)}; torch reads it, others do not",
            )
    if expected != directory.start:
        problems.add("ambiguous-archive", "holds bytes that belong to no member")
    return unpacked


def _read_member(content: bytes, member: Member, limit: int, problems: Problems) -> tuple[memoryview, int]:
    """The content of a member, and the position behind it, which must not lie behind ``limit``."""
    start, same = _data_start(content, member)
    if not same:
        problems.add("ambiguous-archive", f"describes a member in two ways: {shown(member.name)}")
    end = _behind(content, member, start + member.packed)
    if end > limit:
        raise BadArchiveError(f"holds a member that reaches into the directory: {shown(member.name)}")
    return _unpacked(memoryview(content)[start : start + member.packed], member), end


def _judge_name(member: Member, problems: Problems) -> None:
    name = member.name
    dots = any(part in ("", ".", "..") for part in name.split("/"))
    if member.link:
        problems.add("ambiguous-archive", f"holds a member that is a link: {shown(name)}")
    elif dots or "\\" in name or not name.isprintable() or DRIVE.match(name):
        problems.add("ambiguous-archive", f"holds a member whose name leads elsewhere: {shown(name)}")


def _judge_packing(member: Member, problems: Problems) -> None:
    if member.flags & ENCRYPTED:
        problems.add("ambiguous-archive", f"holds an encrypted member: {shown(member.name)}")
    elif member.flags & ~KNOWN_FLAGS or member.method not in (STORED, DEFLATED):
        problems.add("ambiguous-archive", f"holds a member packed in an unusual way: {shown(member.name)}")
    elif member.method == STORED and member.size != member.packed:
        problems.add("ambiguous-archive", f"holds a member of two sizes: {shown(member.name)}")


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
