"""Pickles that would run code, exhaust memory or fool a scanner; made opcode by opcode, so that torch is not needed."""

from __future__ import annotations

import bz2
import gzip
import io
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

from . import Case

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
UNSAFE = frozenset({"unsafe-serialisation"})
MALFORMED = frozenset({"malformed-file"})
UNKNOWN = frozenset({"unknown-format"})
INCONSISTENT = frozenset({"inconsistent-tensors"})
NAMES_OF_CODE = (
    ("evilpkg", "go"),
    ("importlib", "import_module"),
    ("joblib", "load"),
    ("code", "interact"),
    ("smtplib", "SMTP"),
    ("ctypes", "CDLL"),
    ("pydoc", "pipepager"),
    ("urllib.request", "urlretrieve"),
    ("uuid", "_popen"),
    ("numpy.f2py.crackfortran", "getlincoef"),
    ("torch.hub", "load"),
    ("torch.jit", "load"),
    ("__builtin__", "eval"),
    ("torch._utils", "__builtins__"),
)


# Opcodes.


def text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def number(value: int) -> bytes:
    """BININT, or LONG1 for what does not fit."""
    if -(1 << 31) <= value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    raw = pickle.encode_long(value)
    return b"\x8a" + bytes([len(raw)]) + raw


def look_up(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def group(*values: bytes) -> bytes:
    return b"(" + b"".join(values) + b"t"


def call(module: str, name: str, *arguments: bytes) -> bytes:
    return look_up(module, name) + group(*arguments) + b"R"


def storage(kind: str, key: str, numel: int, *, legacy: bool = False) -> bytes:
    view = (b"N",) if legacy else ()
    return group(text("storage"), look_up("torch", kind), text(key), text("cpu"), number(numel), *view) + b"Q"


def tensor(
    numel: int = 4,
    size: tuple[int, ...] = (4,),
    stride: tuple[int, ...] = (1,),
    offset: int = 0,
    *,
    legacy: bool = False,
) -> bytes:
    """A float32 tensor on storage "0" of ``numel`` elements."""
    return call(
        "torch._utils",
        "_rebuild_tensor_v2",
        storage("FloatStorage", "0", numel, legacy=legacy),
        number(offset),
        group(*map(number, size)),
        group(*map(number, stride)),
        b"\x89",
        call("collections", "OrderedDict"),
    )


def pickled(*values: bytes) -> bytes:
    """The pickle of a dict: one key for each value."""
    items = b"".join(text(f"w{index}") + value for index, value in enumerate(values))
    return b"\x80\x02}(" + items + b"u."


# Files.


def archive(data: bytes, storages: Mapping[str, bytes] | None = None, **others: bytes) -> bytes:
    """As torch.save lays it out, without its alignment."""
    members = {"data.pkl": data, "byteorder": b"little"}
    members |= {f"data/{key}": raw for key, raw in (storages if storages is not None else {"0": bytes(16)}).items()}
    members |= {"version": b"3\n", **others}
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        for name, raw in members.items():
            file.writestr(f"archive/{name}", raw)
    return stream.getvalue()


def legacy(data: bytes, storages: Mapping[str, bytes] | None = None) -> bytes:
    """As torch.save wrote before torch 1.6: float32 storages."""
    storages = {"0": bytes(16)} if storages is None else storages
    head = [MAGIC_NUMBER, 1001, {"protocol_version": 1001, "little_endian": True}]
    parts = [pickle.dumps(value, 2) for value in head] + [data, pickle.dumps(sorted(storages), 2)]
    parts += [struct.pack("<Q", len(storages[key]) // 4) + storages[key] for key in sorted(storages)]
    return b"".join(parts)


def payload(canary: Path) -> bytes:
    """Creates the canary when a pickle with it is loaded."""
    return call("builtins", "open", text(str(canary)), text("w"))


def _shell(canary: Path) -> bytes:
    return call("os", "system", text(f"echo > '{canary}'"))


def _dup(canary: Path) -> bytes:
    """A second pickle behind a harmless one."""
    return pickled(number(1)) + pickled(payload(canary))


def _stacked(canary: Path) -> bytes:
    """STACK_GLOBAL, with both names out of the memo."""
    names = text("builtins") + b"q\x000" + text("open") + b"q\x010"
    return b"\x80\x04" + names + b"h\x00h\x01\x93" + group(text(str(canary)), text("w")) + b"R."


def _instance(canary: Path) -> bytes:
    return b"(" + text(str(canary)) + text("w") + b"ibuiltins\nopen\n."


def _stacked_instance(canary: Path) -> bytes:
    return b"(" + look_up("builtins", "open") + text(str(canary)) + text("w") + b"o."


def _old(canary: Path) -> bytes:
    """Protocol 0: text from end to end."""
    return f"cbuiltins\nopen\n(V{canary}\nVw\ntR.".encode()


def laughs(count: int = 60) -> bytes:
    """A tuple of two tuples of two tuples...: 2^count values in a few bytes."""
    return b")" + b"q\x00h\x00\x86" * count


def _fixed(content: bytes) -> Callable[[Path], bytes]:
    return lambda canary: content


def _case(row: int, name: str, make: Callable[[Path], bytes], rules: frozenset[str], file: str = "model.pth") -> Case:
    def write(folder: Path, canary: Path) -> Path:
        path = folder / file
        path.write_bytes(make(canary))
        return path

    return Case(row=row, name=name, write=write, rules=rules)


def _bomb(name: str, data: bytes) -> tuple[Case, ...]:
    return (
        _case(6, f"{name}_plain", _fixed(data), MALFORMED),
        _case(6, f"{name}_in_archive", _fixed(archive(data)), MALFORMED),
    )


def _weights(row: int, name: str, value: bytes, rules: frozenset[str] = INCONSISTENT, size: int = 16) -> Case:
    return _case(row, name, _fixed(archive(pickled(value), {"0": bytes(size)})), rules)


DISGUISES = ("payload.onnx", "payload.safetensors", "payload.th", "payload.PKL", "payload.tar")
CASES: tuple[Case, ...] = (
    _case(1, "shell_plain", lambda canary: pickled(_shell(canary)), UNSAFE),
    _case(1, "shell_in_archive", lambda canary: archive(pickled(tensor(), _shell(canary))), UNSAFE),
    _case(1, "shell_in_legacy_file", lambda canary: legacy(pickled(tensor(legacy=True), _shell(canary))), UNSAFE),
    _case(1, "reduced_in_archive", lambda canary: archive(pickled(tensor(), payload(canary))), UNSAFE),
    *(
        _case(2, f"{module}.{name}", _fixed(archive(pickled(tensor(), call(module, name)))), UNSAFE)
        for module, name in NAMES_OF_CODE
    ),
    _case(2, "unknown_name_never_called", _fixed(archive(pickled(tensor(), look_up("evilpkg", "go")))), UNSAFE),
    _case(2, "state_of_unknown_class", _fixed(pickled(look_up("evilpkg", "Go") + b")\x81}b")), UNSAFE),
    _case(3, "broken_behind_payload", lambda canary: b"\x80\x02" + payload(canary) + b"\xff\xff", UNSAFE),
    _case(3, "no_stop", lambda canary: b"\x80\x02" + payload(canary), UNSAFE),
    _case(3, "no_stop_in_archive", lambda canary: archive(b"\x80\x02" + payload(canary)), UNSAFE),
    _case(3, "broken_in_legacy_file", lambda canary: legacy(b"\x80\x02" + payload(canary) + b"\xff"), UNSAFE),
    _case(4, "second_pickle", _dup, UNSAFE),
    _case(4, "second_pickle_in_archive", lambda canary: archive(pickled(tensor()) + pickled(payload(canary))), UNSAFE),
    _case(
        4,
        "second_pickle_behind_storages",
        lambda canary: legacy(pickled(tensor(legacy=True))) + pickled(payload(canary)),
        UNSAFE,
    ),
    _case(4, "stack_global_out_of_the_memo", _stacked, UNSAFE),
    _case(4, "stack_global_in_archive", lambda canary: archive(_stacked(canary)), UNSAFE),
    _case(4, "inst", _instance, UNSAFE),
    _case(4, "obj", _stacked_instance, UNSAFE),
    _case(4, "protocol_0", _old, UNSAFE),
    _case(5, "extension_opcode", _fixed(b"\x80\x02\x82\x01)R."), UNSAFE),
    _case(5, "extension_opcode_2", _fixed(b"\x80\x02\x83\x01\x00)R."), UNSAFE),
    _case(5, "extension_opcode_4_in_archive", _fixed(archive(b"\x80\x02\x84\x01\x00\x00\x00)R.")), UNSAFE),
    _case(5, "persistent_id", _fixed(archive(b"\x80\x02Psecret\n.")), UNSAFE),
    _case(
        5,
        "persistent_id_that_is_no_storage",
        _fixed(archive(pickled(group(text("module"), b"N", b"N") + b"Q"))),
        UNSAFE,
    ),
    *_bomb("memo_bomb", b"\x80\x02Nr" + struct.pack("<I", 0x7FFFFFFF) + b"."),
    *_bomb("length_bomb", b"\x80\x04\x8d" + struct.pack("<Q", 1 << 40) + b"."),
    *_bomb("bytes_bomb", b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b"."),
    *_bomb("text_bomb", b"\x80\x02X" + struct.pack("<I", 0xFFFFFFF0) + b"."),
    *_bomb("number_bomb", b"\x80\x02\x8b" + struct.pack("<I", 0x7FFFFFFF) + b"."),
    *_bomb("frame_bomb", b"\x80\x04\x95" + struct.pack("<Q", 1 << 62) + b"N."),
    *_bomb("long_number", b"\x80\x02\x8b" + struct.pack("<I", 300) + b"\x01" * 300 + b"."),
    *_bomb("decimal_bomb", b"\x80\x02I" + b"9" * 100_000 + b"\n."),
    _case(7, "deep_list", _fixed(b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b"."), MALFORMED),
    _case(7, "deep_list_in_archive", _fixed(archive(b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".")), MALFORMED),
    _case(7, "deep_marks", _fixed(b"\x80\x02" + b"(" * 200_000 + b"t" * 200_000 + b"."), MALFORMED),
    _case(7, "deep_tuple", _fixed(b"\x80\x02)" + b"\x85" * 200_000 + b"."), UNKNOWN),
    _case(7, "billion_laughs", _fixed(b"\x80\x02" + laughs() + b"."), UNKNOWN),
    _case(7, "billion_laughs_as_key", _fixed(archive(b"\x80\x02}" + laughs() + b"Ns.")), MALFORMED),
    _case(7, "billion_laughs_in_set", _fixed(archive(pickled(call("__builtin__", "set", laughs())))), MALFORMED),
    _case(7, "billion_laughs_as_size", _fixed(archive(pickled(call("torch", "Size", laughs())))), MALFORMED),
    _case(8, "gzip", lambda canary: gzip.compress(pickled(payload(canary))), UNKNOWN),
    _case(8, "zlib", lambda canary: zlib.compress(pickled(payload(canary))), UNKNOWN),
    _case(8, "bzip2", lambda canary: bz2.compress(pickled(payload(canary))), UNKNOWN),
    _case(8, "prefixed", lambda canary: bytes(16) + pickled(payload(canary)), UNKNOWN),
    _weights(13, "view_bomb", tensor(1, (1 << 40,), (0,)), size=4),
    _weights(13, "view_bomb_in_two_dimensions", tensor(4, (1 << 20, 1 << 20), (0, 0))),
    _weights(13, "view_bomb_of_64_bits", tensor(4, (1 << 62, 1 << 62), (0, 0))),
    _weights(13, "reserved_by_a_class", call("torch", "FloatTensor", number(1 << 40)), MALFORMED),
    _weights(13, "reserved_by_newobj", look_up("torch", "FloatTensor") + group(number(1 << 40)) + b"\x81", MALFORMED),
    _weights(13, "reserved_bytes", call("__builtin__", "bytearray", number(1 << 40)), MALFORMED),
    _weights(
        13,
        "without_data",
        call(
            "torch._utils",
            "_rebuild_meta_tensor_no_storage",
            look_up("torch", "float32"),
            group(number(1 << 40)),
            group(number(1)),
            b"\x89",
        ),
    ),
    _weights(
        13,
        "state_of_an_empty_tensor",
        look_up("torch", "FloatTensor")
        + b")\x81"
        + group(storage("FloatStorage", "0", 4), number(0), group(number(1 << 40)), group(number(0)))
        + b"b",
    ),
    _weights(14, "larger_than_storage", tensor(4, (5,), (1,))),
    _weights(14, "offset_behind_storage", tensor(4, (4,), (1,), 1)),
    _weights(14, "stride_behind_storage", tensor(4, (2,), (4,))),
    _weights(14, "negative_size", tensor(4, (-4,), (1,))),
    _weights(14, "negative_stride", tensor(4, (4,), (-1,))),
    _weights(14, "negative_offset", tensor(4, (4,), (1,), -1)),
    _weights(14, "storage_larger_than_data", tensor(1 << 40, (4,), (1,))),
    _weights(14, "storage_smaller_than_data", tensor(3, (3,), (1,))),
    _case(14, "storage_missing", _fixed(archive(pickled(tensor()), {})), INCONSISTENT),
    _case(14, "legacy_storage_missing", _fixed(legacy(pickled(tensor(legacy=True)), {})), INCONSISTENT),
    _case(14, "legacy_storage_cut_short", _fixed(legacy(pickled(tensor(legacy=True)))[:-4]), INCONSISTENT),
    _case(14, "legacy_tensor_larger", _fixed(legacy(pickled(tensor(4, (5,), legacy=True)))), INCONSISTENT),
    _weights(14, "type_that_is_none", call("torch._utils", "_rebuild_tensor_v2", number(1)), MALFORMED),
    *(_case(15, f"disguised_as_{name}", lambda canary: pickled(payload(canary)), UNSAFE, name) for name in DISGUISES),
    *(
        _case(15, f"archive_disguised_as_{name}", lambda canary: archive(pickled(payload(canary))), UNSAFE, name)
        for name in DISGUISES
    ),
    _case(16, "torchscript", _fixed(archive(pickled(tensor()), **{"constants.pkl": b"\x80\x02)."})), UNSAFE),
    _case(16, "torchscript_code", _fixed(archive(pickled(tensor()), **{"code/net.py": b"import os"})), UNSAFE),
    _case(
        16,
        "joblib",
        _fixed(b"\x80\x03" + look_up("joblib.numpy_pickle", "NumpyArrayWrapper") + b")\x81}b" + bytes(64) + b"."),
        UNSAFE,
        "model.joblib",
    ),
)
