"""Files in the safetensors format that lie about what they hold."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from . import Case

MALFORMED = frozenset({"malformed-file"})
INCONSISTENT = frozenset({"inconsistent-tensors"})


def safetensors(header: dict[str, Any] | bytes, data: bytes = bytes(16), length: int | None = None) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def entry(
    shape: tuple[Any, ...] = (4,), begin: Any = 0, end: Any = 16, dtype: Any = "F32", **others: Any
) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end], **others}


def _case(row: int, name: str, content: bytes, rules: frozenset[str]) -> Case:
    def write(folder: Path, canary: Path) -> Path:
        path = folder / "model.safetensors"
        path.write_bytes(content)
        return path

    return Case(row=row, name=name, write=write, rules=rules)


def _sized(name: str, content: bytes) -> Case:
    return _case(42, name, content, INCONSISTENT)


def _broken(name: str, content: bytes) -> Case:
    return _case(41, name, content, MALFORMED)


def _named(key: str) -> bytes:
    return safetensors({key: entry()})


GOOD = safetensors({"w": entry()})
DUPLICATE = b'{"w":' + json.dumps(entry()).encode() + b',"w":' + json.dumps(entry()).encode() + b"}"
CASES: tuple[Case, ...] = (
    _broken("header_longer_than_file", safetensors({"w": entry()}, length=1000)),
    _broken("header_cut_short", GOOD[:30]),
    _broken("header_no_json", safetensors(b'{"w": ')),
    _broken("header_not_utf8", safetensors(b'{"\xff": 1}')),
    _broken("two_entries_of_one_name", safetensors(DUPLICATE)),
    _broken(
        "two_keys_of_one_name", safetensors(b'{"w":{"dtype":"F32","dtype":"F64","shape":[4],"data_offsets":[0,16]}}')
    ),
    _broken("deep_header", safetensors(b'{"w":' + b"[" * 200_000 + b"]" * 200_000 + b"}")),
    _broken("huge_number", safetensors(b'{"w":' + b"9" * 100_000 + b"}")),
    _broken("not_a_number", safetensors(b'{"w":{"dtype":"F32","shape":[NaN],"data_offsets":[0,16]}}')),
    _broken("fraction", safetensors({"w": entry((4.0,))})),
    _broken("truth_as_size", safetensors({"w": entry((True, 4))})),
    _broken("negative_size", safetensors({"w": entry((-4,))})),
    _broken("offsets_reversed", safetensors({"w": entry(begin=16, end=0)})),
    _broken("unknown_key", safetensors({"w": entry(code="x")})),
    _broken("metadata_not_text", safetensors({"__metadata__": {"a": {"b": "c"}}, "w": entry()})),
    _broken("parent_folder", _named("../../x")),
    _broken("absolute", _named("/etc/passwd")),
    _broken("backslash", _named("..\\x")),
    _broken("control_character", _named("w\x1b[2J")),
    _sized("data_cut_short", GOOD[:-4]),
    _sized("bytes_behind", GOOD + b"\0"),
    _sized("gap", safetensors({"v": entry((1,), 0, 4), "w": entry((2,), 8, 16)})),
    _sized("overlap", safetensors({"v": entry((2,), 0, 8), "w": entry((3,), 4, 16)})),
    _sized("larger_than_data", safetensors({"w": entry((5,))})),
    _sized("product_of_64_bits", safetensors({"w": entry((1 << 62, 4))})),
    _sized("product_that_wraps", safetensors({"w": entry(((1 << 62) + 1, 4))})),
    _case(42, "unknown_type", safetensors({"w": entry(dtype="Q99")}), frozenset({"unsupported-version"})),
    _case(
        43,
        "not_a_number_in_weights",
        safetensors({"w": entry()}, struct.pack("<4f", 1, 2, float("nan"), 3)),
        frozenset({"not-finite-weights"}),
    ),
    _case(
        43,
        "infinite_weights",
        safetensors({"w": entry((8,), dtype="BF16")}, struct.pack("<8H", *[0x3F80] * 7, 0x7F80)),
        frozenset({"not-finite-weights"}),
    ),
)
