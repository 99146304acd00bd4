"""Reading a file once: what is hashed is what is kept, and nobody can exchange it in between."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pytest_backdoor.errors import ModelError

from ._format import open_regular

# Hashing follows reading while the bytes are still in the processor's cache.
CHUNK_BYTES = 1 << 18
# A file that claims far more than the disk holds of it would be read for hours.
SPARSE_BYTES, SPARSE_RATIO = 1 << 30, 16
BLOCK_BYTES = 512  # the unit of st_blocks, whatever the file system's own is


@dataclass(frozen=True, kw_only=True)
class FileContent:
    """What a file held when it was read.

    ``data``: its bytes, None if they were not to be kept. ``sha256``: 64 lower-case hex digits. ``size``: in bytes.
    ``linked``: whether it has other names (hard links). ``kind``: what ``judge`` said.
    """

    data: bytes | None
    sha256: str
    size: int
    linked: bool
    kind: str | None = None


def read_file(
    path: Path, *, keep: int, judge: Callable[[BinaryIO, int], tuple[str | None, bool]] | None = None
) -> FileContent:
    """Open a regular file and read it to its end, once.

    ``keep``: the most bytes to keep; a larger file, or one for which there is no memory, is hashed all the same.
    ``judge``: told the opened file and its size, says what it is and whether its bytes are to be kept whatever ``keep``
    says. Raises ModelError if it cannot be read, is no regular file, is a sparse one of more than a gigabyte, or if
    somebody writes to it meanwhile.
    """
    with open_regular(path) as stream:
        before = os.fstat(stream.fileno())
        _refuse_sparse(path, before)
        kind, wanted = judge(stream, before.st_size) if judge else (None, False)
        stream.seek(0)
        data, sha256, size = None, "", -1
        if wanted or before.st_size <= keep:
            try:
                data, sha256, size = _read(stream, before.st_size)
            except MemoryError:
                stream.seek(0)
        if data is None:
            sha256, size = _hash(stream, before.st_size)
        after = os.fstat(stream.fileno())
    if _identity(before) != _identity(after) or size != after.st_size:
        raise ModelError(f"{path} changed while it was read; stop what writes to it and try again.")
    return FileContent(data=data, sha256=sha256, size=size, linked=before.st_nlink > 1, kind=kind)


def _identity(state: os.stat_result) -> tuple[int, int]:
    return state.st_size, state.st_mtime_ns


def _refuse_sparse(path: Path, state: os.stat_result) -> None:
    blocks = getattr(state, "st_blocks", None)
    if blocks is None or state.st_size <= SPARSE_BYTES or blocks * BLOCK_BYTES * SPARSE_RATIO >= state.st_size:
        return
    raise ModelError(
        f"{path} claims {state.st_size} bytes, of which the disk holds {blocks * BLOCK_BYTES}; it is a sparse file and "
        "no model. Fetch it again."
    )


def _read(stream: BinaryIO, size: int) -> tuple[bytes, str, int]:
    """The content, its SHA-256 and its length, which is larger than ``size`` by one if the file has grown."""
    digest, held = hashlib.sha256(), io.BytesIO()
    if size:  # room for all of it at once, so that it is never copied
        held.seek(size - 1)
        held.write(b"\0")
    position = 0
    with held.getbuffer() as room:
        while position < size:
            count = _into(stream, room[position : position + CHUNK_BYTES])
            if not count:
                break
            digest.update(room[position : position + count])
            position += count
    grown = len(stream.read(1)) if position == size else 0
    return held.getvalue(), digest.hexdigest(), position + grown


def _hash(stream: BinaryIO, size: int) -> tuple[str, int]:
    """SHA-256 and length of the content, larger than ``size`` if the file has grown: it may do so for ever."""
    digest, position = hashlib.sha256(), 0
    room = memoryview(bytearray(CHUNK_BYTES))
    while position <= size and (count := _into(stream, room)):
        digest.update(room[:count])
        position += count
    return digest.hexdigest(), position


def _into(stream: BinaryIO, room: memoryview) -> int:
    count: int = stream.readinto(room)  # type: ignore[attr-defined]  # BinaryIO leaves it out
    return count
