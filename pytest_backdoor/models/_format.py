"""Telling model files apart by what they contain, never by what they are called."""

from __future__ import annotations

import os
import stat
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pytest_backdoor.errors import ModelError

HEAD_BYTES = 4096
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
HDF5 = b"\x89HDF\r\n\x1a\n"
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

    One of ``onnx``, ``safetensors``, ``torch-zip``, ``torchscript``, ``pickle``, ``hdf5``, ``empty``, ``lfs-pointer``,
    ``html``, ``text``. The answer is a guess from the first bytes (and the table of contents of an archive): the file
    may still be malformed. Raises ModelError if the file cannot be read.
    """
    with open_regular(path) as stream:
        return sniff_stream(stream)


def sniff_stream(stream: BinaryIO) -> str | None:
    """As ``sniff_format``, for a seekable stream; the position afterwards is undefined."""
    stream.seek(0)
    head = stream.read(HEAD_BYTES)
    if head.startswith(b"PK\x03\x04"):
        return _sniff_zip(stream, head)
    return _sniff_magic(head) or _sniff_safetensors(head) or _sniff_text(head) or ("onnx" if _is_onnx(head) else None)


def _sniff_magic(head: bytes) -> str | None:
    if not head:
        return "empty"
    if head.startswith(LFS_POINTER):
        return "lfs-pointer"
    if head.startswith(HDF5):
        return "hdf5"
    # PROTO opcode with a protocol that exists; older pickles look like text and are nothing a model file should be.
    if head[0] == 0x80 and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "pickle"
    return None


def _sniff_zip(stream: BinaryIO, head: bytes) -> str | None:
    try:
        with zipfile.ZipFile(stream) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError, struct.error):
        # A torch file cut short has lost its table of contents: still say what it was meant to be.
        return "torch-zip" if b"data.pkl" in head else None
    inner = [name.partition("/")[2] for name in names]
    if any(name.startswith("code/") or name == "constants.pkl" for name in inner):
        return "torchscript"
    return "torch-zip" if "data.pkl" in inner else None


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
