"""What a model may name as the place of its external data, judged by the name alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from ._problems import shown

DRIVE = re.compile(r"[A-Za-z]:")
# Bytes of a number in an entry: more digits than 2**64 has are no size.
NUMBER = re.compile(rb"[0-9]{1,19}")
KEYS = (b"location", b"offset", b"length", b"checksum")
Entries = Sequence[tuple[bytes, bytes]]


class LocationError(Exception):
    """The text continues a sentence that begins with the model file."""


def location_of(entries: Entries) -> str:
    """The file that the ``external_data`` entries of a tensor name, relative to the model's folder, with ``/``.

    Raises LocationError unless they name exactly one, which is below that folder and which all readers read alike.
    """
    found = [value for key, value in entries if key == b"location"]
    if len(found) != 1:
        raise LocationError(
            f"names {len(found)} files for the external data of one tensor, so readers disagree on what to load"
        )
    if any(key == b"basepath" and value for key, value in entries):
        raise LocationError("names a folder of its own for external data, so readers disagree on what to load")
    return checked_location(found[0])


def checked_location(raw: bytes) -> str:
    """``raw`` as a clean relative path. Raises LocationError."""
    location = raw.decode("utf-8", "backslashreplace")
    parts = PurePosixPath(location).parts
    escapes = location.startswith("/") or DRIVE.match(location) or "\\" in location or ".." in parts
    # ORT takes this prefix for an address in its own memory.
    if not parts or escapes or not location.isprintable() or "_ORT_MEM_ADDR_" in location:
        raise LocationError(f"names the external data {shown(raw)}, which is not a file below the model's folder")
    return PurePosixPath(location).as_posix()
