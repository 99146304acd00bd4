"""Zip archives on which readers disagree, that lead elsewhere, or that grow."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from . import Case
from .pickles import archive, payload, pickled, tensor

AMBIGUOUS = frozenset({"ambiguous-archive"})
TOO_LARGE = frozenset({"archive-too-large"})
GOOD = pickled(tensor())
LOCAL_CRC = 14
# A header of the central directory, and where in it the fields begin that are changed here.
ENTRY, ENTRY_FLAGS, ENTRY_CRC, ENTRY_SIZE, ENTRY_ATTRIBUTES = b"PK\x01\x02", 8, 16, 24, 38


def _live(canary: Path) -> bytes:
    """With a tensor, so that nothing but the archive itself is odd about the storage in it."""
    return pickled(tensor(), payload(canary))


def _changed(content: bytes, offset: int, raw: bytes, *, header: bytes = ENTRY, number: int = 0) -> bytes:
    """``content`` with ``raw`` at ``offset`` behind the start of a header, the ``number``-th of its kind."""
    position = -1
    for _ in range(number + 1):
        position = content.index(header, position + 1)
    position += offset
    return content[:position] + raw + content[position + len(raw) :]


def _wrong_checksum(canary: Path) -> bytes:
    return _changed(archive(_live(canary)), ENTRY_CRC, b"\1\2\3\4")


def _wrong_checksum_everywhere(canary: Path) -> bytes:
    """The directory and the local header agree with each other, not with the data."""
    return _changed(_wrong_checksum(canary), LOCAL_CRC, b"\1\2\3\4", header=b"PK\x03\x04")


def _encrypted(canary: Path) -> bytes:
    content = archive(_live(canary))
    content = _changed(content, ENTRY_FLAGS, struct.pack("<H", 1))
    return _changed(content, 6, struct.pack("<H", 1), header=b"PK\x03\x04")


def _with(name: str, raw: bytes, *, root: str = "archive/") -> bytes:
    """The good archive with one more member."""
    stream = io.BytesIO(archive(GOOD))
    with zipfile.ZipFile(stream, "a") as file:
        # The name is changed afterwards: zipfile warns of, or repairs, the names that are wanted here.
        info = zipfile.ZipInfo("#" * len(f"{root}{name}"))
        file.writestr(info, raw)
    placeholder = b"#" * len(f"{root}{name}")
    return stream.getvalue().replace(placeholder, f"{root}{name}".encode())


def _second_name(canary: Path) -> bytes:
    """The extra field 0x7075 calls a member otherwise: its version, the checksum of the usual name, the other name."""
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive(GOOD))) as old, zipfile.ZipFile(written, "w") as new:
        for member in old.infolist():
            copied = zipfile.ZipInfo(member.filename)
            name = b"\x01" + struct.pack("<I", zlib.crc32(member.filename.encode())) + b"archive/other"
            copied.extra = struct.pack("<HH", 0x7075, len(name)) + name
            new.writestr(copied, old.read(member))
    return written.getvalue()


def _nested(canary: Path) -> bytes:
    return _with("inner.zip", archive(_live(canary)))


def _only_nested(canary: Path) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr("archive/data.pkl.zip", archive(_live(canary)))
    return stream.getvalue()


def _local_name(canary: Path) -> bytes:
    """The directory says data.pkl, the local header another name."""
    content = archive(GOOD)
    position = content.index(b"archive/data.pkl")
    return content[:position] + b"archive/evil.pkl" + content[position + 16 :]


def _hidden_member(canary: Path) -> bytes:
    """A second data.pkl between the members and the directory, which only readers of local headers see."""
    inner = archive(_live(canary))
    hidden = inner[: inner.index(ENTRY)]
    content = archive(GOOD)
    start = content.index(ENTRY)
    end = content[start:-6] + struct.pack("<I", start + len(hidden)) + content[-2:]
    return content[:start] + hidden + end


def _unlisted_member(canary: Path) -> bytes:
    """A first data.pkl that the directory does not list: readers of local headers see it, the others the second one."""
    hidden = archive(_live(canary))
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        stream.write(hidden[: hidden.index(b"PK\x03\x04", 4)])
        file.start_dir = stream.tell()
        for name, raw in {"data.pkl": GOOD, "data/0": bytes(16), "version": b"3\n"}.items():
            file.writestr(f"archive/{name}", raw)
    return stream.getvalue()


def _bomb_beside_padding(canary: Path) -> bytes:
    """The archive as a whole does not grow much, one member does."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr("archive/data.pkl", GOOD)
        file.writestr("archive/data/0", bytes(4 << 20), zipfile.ZIP_DEFLATED)
        file.writestr("archive/data/1", bytes(1 << 20))
    return stream.getvalue()


def packed(data: bytes, storages: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", data)
        for key, raw in storages.items():
            file.writestr(f"archive/data/{key}", raw)
        file.writestr("archive/version", "3\n")
    return stream.getvalue()


def _tensor_bomb(canary: Path) -> bytes:
    numel = 1 << 24
    return packed(pickled(tensor(numel, (numel,))), {"0": bytes(4 * numel)})


def _pickle_bomb(canary: Path) -> bytes:
    return packed(b"\x80\x02" + b"N0" * (16 << 20) + b"}.", {})


def _lying_bomb(canary: Path) -> bytes:
    """Declares to be small, so that only unpacking it shows how large it is."""
    content = packed(GOOD, {"0": bytes(16 << 20)})
    content = _changed(content, ENTRY_SIZE, struct.pack("<I", 16), number=1)
    return _changed(content, 22, struct.pack("<I", 16), header=b"PK\x03\x04", number=1)


def _case(row: int, name: str, make: Callable[[Path], bytes], rules: frozenset[str] = AMBIGUOUS) -> Case:
    def write(folder: Path, canary: Path) -> Path:
        path = folder / "model.pth"
        path.write_bytes(make(canary))
        return path

    return Case(row=row, name=name, write=write, rules=rules)


LINK = 0o120777 << 16
CASES: tuple[Case, ...] = (
    _case(9, "wrong_checksum", _wrong_checksum),
    _case(9, "wrong_checksum_everywhere", _wrong_checksum_everywhere),
    _case(10, "encrypted_flag", _encrypted),
    # It does not begin like an archive any more; torch would not read it as one either.
    _case(
        10,
        "bytes_before",
        lambda canary: b"#!/bin/sh\n\0" + archive(_live(canary)),
        frozenset({"unknown-format"}),
    ),
    _case(10, "bytes_behind", lambda canary: archive(GOOD) + bytes(10)),
    _case(10, "comment", lambda canary: archive(GOOD)[:-2] + b"\x04\x00" + b"text"),
    _case(10, "two_data_pkl", lambda canary: _with("data.pkl", _live(canary))),
    _case(10, "two_data_pkl_by_case", lambda canary: _with("DATA.PKL", _live(canary))),
    _case(10, "second_name", _second_name),
    _case(10, "nested", _nested),
    _case(10, "only_nested", _only_nested, frozenset({"unknown-format", "ambiguous-archive"})),
    _case(10, "payload_named_text", lambda canary: _with("data.txt", _live(canary))),
    _case(10, "payload_as_unused_storage", lambda canary: _with("data/7", _live(canary))),
    _case(10, "two_folders", lambda canary: _with("data.pkl", _live(canary), root="other/")),
    _case(10, "local_name_differs", _local_name),
    _case(10, "hidden_member", _hidden_member),
    _case(10, "unlisted_member", _unlisted_member),
    _case(10, "unknown_packing", lambda canary: _changed(archive(GOOD), 10, b"\x63\0")),
    _case(11, "parent_folder", lambda canary: _with("../../x", b"x")),
    _case(11, "absolute", lambda canary: _with("/tmp/x", b"x", root="")),
    _case(11, "drive", lambda canary: _with("C:/x", b"x", root="")),
    _case(11, "backslash", lambda canary: _with("..\\x", b"x")),
    _case(11, "nul", lambda canary: _with("data.pkl\0.txt", b"x")),
    _case(11, "link", lambda canary: _changed(archive(GOOD), ENTRY_ATTRIBUTES, struct.pack("<I", LINK))),
    _case(12, "tensor_bomb", _tensor_bomb, TOO_LARGE),
    _case(12, "pickle_bomb", _pickle_bomb, TOO_LARGE),
    _case(
        12, "many_small_bombs", lambda canary: packed(GOOD, {str(key): bytes(1 << 20) for key in range(32)}), TOO_LARGE
    ),
    _case(12, "bomb_beside_padding", _bomb_beside_padding, TOO_LARGE),
    _case(12, "lying_bomb", _lying_bomb),
)
