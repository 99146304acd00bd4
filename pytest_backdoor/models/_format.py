"""Telling model files apart by what they contain, never by what they are called."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pytest_backdoor.errors import ModelError

from .inspection._pickle import read_pickle
from .inspection._torch import is_script
from .inspection._values import Symbols
from .inspection._zip_directory import BadArchiveError, read_directory

HEAD_BYTES = 4096
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
# Formats that are recognised by fixed bytes and never opened: what they are called, where the bytes lie, the bytes.
MAGIC = (
    ("lfs-pointer", 0, LFS_POINTER),
    ("hdf5", 0, b"\x89HDF\r\n\x1a\n"),
    ("npy", 0, b"\x93NUMPY"),
    ("gzip", 0, b"\x1f\x8b"),
    ("bzip2", 0, b"BZh"),
    ("xz", 0, b"\xfd7zXZ\x00"),
    ("zstd", 0, b"\x28\xb5\x2f\xfd"),
    ("lz4", 0, b"\x04\x22\x4d\x18"),
    ("7z", 0, b"7z\xbc\xaf\x27\x1c"),
    ("rar", 0, b"Rar!\x1a\x07"),
    ("gguf", 0, b"GGUF"),
    ("tar", 257, b"ustar"),
    ("ort", 4, b"ORTM"),
    ("tflite", 4, b"TFL3"),
)
# All that compressors write as the first two bytes of a zlib stream with the default window.
ZLIB_HEADS = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
STEPS_OF_HEAD = 64
MAX_SAFETENSORS_HEADER = 100_000_000
VARINT, LENGTH_DELIMITED = 0, 2
# Field numbers of onnx.ModelProto and how the wire format encodes them.
MODEL_FIELDS = {1: VARINT, 5: VARINT} | dict.fromkeys((2, 3, 4, 6, 7, 8, 14, 20, 25, 26), LENGTH_DELIMITED)
FIXED_SIZES = {1: 8, 5: 4}
MAX_FIELD_NUMBER = 1000
TEXT_CONTROLS = frozenset("\t\n\r\f")


@contextmanager
def open_regular(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file for reading; a pipe, a device or a folder is refused instead of waited for.

    Raises ModelError if there is no such file, if it is not a regular file or if reading it fails.
    """
    flags = os.O_RDONLY
    for name in ("O_NONBLOCK", "O_BINARY", "O_CLOEXEC"):
        flags |= getattr(os, name, 0)
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError as error:
        raise ModelError(f"{path} does not exist; check the name, or fetch the file first.") from error
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be opened ({error}); check the name and the permissions.") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ModelError(f"{path} is not a regular file; name the model file itself.")
    with os.fdopen(descriptor, "rb") as stream:
        try:
            yield stream
        except OSError as error:
            raise ModelError(f"{path} cannot be read ({error}); check the disk and the permissions.") from error


def sniff_format(path: Path) -> str | None:
    """What the content of a file is, or None if it is nothing known.

    ``onnx``, ``safetensors``, ``torch-zip``, ``pickle``, or a key of ``inspection._unopened.UNOPENED`` for what
    is never opened. The answer is a guess from the first bytes (and the table of contents of an archive): the file may
    still be malformed. Raises ModelError if the file cannot be read.
    """
    with open_regular(path) as stream:
        return sniff_stream(stream)


def sniff_stream(stream: BinaryIO) -> str | None:
    """As ``sniff_format``, for a seekable stream; the position afterwards is undefined."""
    stream.seek(0)
    head = stream.read(HEAD_BYTES)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _sniff_zip(stream, head)
    return (
        _sniff_magic(head)
        or _sniff_safetensors(head)
        or _sniff_old_pickle(head)
        or _sniff_text(head)
        or ("onnx" if _is_onnx(head) else None)
    )


def _sniff_magic(head: bytes) -> str | None:
    if not head:
        return "empty"
    for name, offset, magic in MAGIC:
        if head.startswith(magic, offset):
            return name
    if head.startswith(ZLIB_HEADS):
        return "zlib"
    # PROTO opcode with a protocol that exists; 0 and 1 write none.
    return "pickle" if head[0] == 0x80 and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05") else None


def _sniff_old_pickle(head: bytes) -> str | None:
    """Pickles of protocol 0 and 1 look like text or like nothing: they are told by being readable as one."""
    reading = read_pickle(head, 0, Symbols(), STEPS_OF_HEAD)
    if reading.broken is None:
        return "pickle" if reading.end == len(head) or reading.steps > 2 else None
    looks_up = any(all(part.isidentifier() for part in name.split(".")) for name in reading.names)
    return "pickle" if reading.steps >= STEPS_OF_HEAD or (looks_up and reading.steps > 2) else None


def _sniff_zip(stream: BinaryIO, head: bytes) -> str | None:
    size = stream.seek(0, os.SEEK_END)

    def read(offset: int, length: int) -> bytes:
        stream.seek(max(0, offset))
        return stream.read(length)

    try:
        names = [member.name for member in read_directory(read, size).members]
    except BadArchiveError:
        # A torch file cut short has lost its table of contents: still say what it was meant to be.
        ends = (head.lower(), read(size - (1 << 18), 1 << 18).lower())
        return "torch-zip" if any(b"data.pkl" in end for end in ends) else None
    # torch finds members whatever the case of their letters.
    inner = [name.partition("/")[2].lower() for name in names]
    if any(is_script(name) for name in inner):
        return "torchscript"
    if "data.pkl" in inner:
        return "torch-zip"
    if any(name in names for name in ("config.json", "model.weights.h5")) and "metadata.json" in names:
        return "keras"
    return "npz" if names and all(name.endswith(".npy") for name in names) else "zip"


def _sniff_safetensors(head: bytes) -> str | None:
    if len(head) < 10:
        return None
    (length,) = struct.unpack("<Q", head[:8])
    return "safetensors" if 2 <= length <= MAX_SAFETENSORS_HEADER and head[8:9] == b"{" else None


def _sniff_text(head: bytes) -> str | None:
    try:
        text = head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # otherwise only the last character was cut by the end of the head
            return None
        text = head[: error.start].decode("utf-8-sig")
    if not all(character.isprintable() or character in TEXT_CONTROLS for character in text):
        return None
    return "html" if text.lstrip().lower().startswith(("<!doctype html", "<html", "<head", "<?xml")) else "text"


def _is_onnx(head: bytes) -> bool:
    """Whether the head reads as fields of an ONNX ModelProto, as far as it reaches."""
    position, fields = 0, 0
    while position < len(head):
        tag, position = _varint(head, position)
        number, wire = tag >> 3, tag & 7
        known = MODEL_FIELDS.get(number)
        plausible = 0 < number <= MAX_FIELD_NUMBER and fields > 0 if known is None else wire == known
        if not plausible:
            return False
        if wire in FIXED_SIZES:
            position += FIXED_SIZES[wire]
        elif wire in (VARINT, LENGTH_DELIMITED):
            value, position = _varint(head, position)
            position += value if wire == LENGTH_DELIMITED else 0
        else:
            return False
        fields += 1
    return fields > 0


def _varint(head: bytes, position: int) -> tuple[int, int]:
    """The number at ``position`` and the position behind it; the end of the head counts as the end of the number."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(head):
            break
        byte = head[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
    return value, position
