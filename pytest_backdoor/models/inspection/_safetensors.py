"""Inspecting a safetensors file: a header of JSON with the place of every tensor, then their bytes.

Stricter than the safetensors library (0.8) in names of tensors and in weights that are not finite, and with limits of
its own on the header; everything else is what the format asks for.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

from pytest_backdoor.findings import Problem

from ._dtypes import MOST_DIMENSIONS, SAFETENSORS, ElementType
from ._finite import judge_finite
from ._problems import Problems, inspected, shown

# Enough for a quarter of a million tensors; the format allows 100 MB, which takes a gigabyte to parse.
LARGEST_HEADER = 32 << 20
LONGEST_KEY = 1024
_Tensor = tuple[str, str, tuple[int, ...], int, int]  # name, type, shape, first byte, byte behind the last one


class _BadHeaderError(Exception):
    """The text says how the sentence goes on that begins with the name of the file."""


def inspect_safetensors(content: bytes, display: str) -> list[Problem]:
    """What is wrong with a safetensors file. Never raises for what it holds.

    ``content``: the whole file. ``display``: its name in reports.
    """
    return inspected(_look, content, display)


def _look(content: bytes, problems: Problems) -> None:
    try:
        header, start = _header(content)
        tensors = [(name, *_entry(name, entry)) for name, entry in header.items() if name != "__metadata__"]
        _check_metadata(header.get("__metadata__", {}))
    except _BadHeaderError as error:
        problems.add("malformed-file", str(error))
        return
    for name, *_ in tensors:
        _judge_key(name, problems)
    spans = _judge_places(tensors, len(content) - start, problems)
    if not problems.found:
        inner = memoryview(content)[start:]
        for name, dtype, begin, end in spans:
            judge_finite(inner[begin:end], dtype, name, problems)


def _judge_places(tensors: list[_Tensor], room: int, problems: Problems) -> list[tuple[str, ElementType, int, int]]:
    """Whether the tensors fill the ``room`` bytes behind the header; name, type and place of those of a right size."""
    tensors.sort(key=lambda tensor: tensor[3:])
    expected, spans = 0, []
    for name, kind, shape, begin, end in tensors:
        dtype, numel = SAFETENSORS.get(kind), math.prod(shape)
        if dtype is None:
            problems.add("unsupported-version", f"holds {shown(name)} of an unknown type: {shown(kind)}")
        elif numel * dtype.bits != (end - begin) * 8:
            text = f"holds {shown(name)} of {numel} elements in {end - begin} bytes of {kind}"
            problems.add("inconsistent-tensors", text)
        else:
            spans.append((name, dtype, begin, end))
        if begin != expected:
            problems.add("inconsistent-tensors", f"leaves a gap before {shown(name)} or lets it overlap another")
        expected = end
    if expected != room:
        problems.add("inconsistent-tensors", f"holds {room} bytes for {expected} bytes of tensors")
    return spans


def _header(content: bytes) -> tuple[dict[str, Any], int]:
    """The header, and the position behind it."""
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > len(content) - 8:
        raise _BadHeaderError("is shorter than its header")
    if length > LARGEST_HEADER:
        raise _BadHeaderError(f"has a header of {length} bytes, more than {LARGEST_HEADER}")
    raw = content[8 : 8 + length]
    if not raw.startswith(b"{"):
        raise _BadHeaderError("has a header that does not begin with {")
    try:
        header = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique, parse_float=_refuse, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise _BadHeaderError(f"has a header that is no JSON ({type(error).__name__})") from None
    assert isinstance(header, dict)  # it begins with a brace
    return header, 8 + length


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _BadHeaderError("has a header with two entries of one name")
    return found


def _refuse(text: str) -> NoReturn:
    raise _BadHeaderError("has a header with numbers that are no integers")


def _entry(name: str, entry: Any) -> tuple[str, tuple[int, ...], int, int]:
    """Type, shape, first byte and byte behind the last one, behind the header."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise _BadHeaderError(f"describes {shown(name)} with other entries than dtype, shape and data_offsets")
    kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    good = isinstance(kind, str) and _naturals(shape) and _naturals(offsets)
    if not good or len(shape) > MOST_DIMENSIONS or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _BadHeaderError(f"describes {shown(name)} with a shape or offsets that are none")
    return kind, tuple(shape), offsets[0], offsets[1]


def _naturals(values: Any) -> bool:
    """Whether this is a list of integers that 64 bits can hold, none negative."""
    return isinstance(values, list) and all(type(value) is int and 0 <= value < 1 << 64 for value in values)


def _check_metadata(metadata: Any) -> None:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _BadHeaderError("has metadata that are not all strings")


def _judge_key(name: str, problems: Problems) -> None:
    parts = name.split("/")
    leads_elsewhere = name.startswith("/") or ".." in parts or "\\" in name
    if not name or len(name) > LONGEST_KEY or not name.isprintable() or leads_elsewhere:
        problems.add("malformed-file", f"holds a tensor with an odd name: {shown(name)}")
