"""Pickles that would run code are found without running them; what torch writes passes."""

from __future__ import annotations

import collections
import functools
import io
import pickle
import subprocess
import sys
import tracemalloc
import warnings
import zipfile

import numpy as np
import pytest
from corpus import archives, pickles, safetensors_files
from corpus.pickles import CASES, archive, call, legacy, look_up, payload, pickled, tensor
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from inspecting import name_of, problems_of, require_refused

from pytest_backdoor.models import _format
from pytest_backdoor.models._format import sniff_stream
from pytest_backdoor.models.inspection._globals import ALLOWED
from pytest_backdoor.models.inspection._opcodes import CODES, READ_BY_TORCH
from pytest_backdoor.models.inspection._pickle import METHODS, read_pickle
from pytest_backdoor.models.inspection._safetensors import inspect_safetensors
from pytest_backdoor.models.inspection._torch import inspect_pickle, inspect_torch_zip
from pytest_backdoor.models.inspection._unopened import UNOPENED, inspect_unopened
from pytest_backdoor.models.inspection._values import Symbols
from pytest_backdoor.rules import RULES

LIVE = ("shell_plain", "second_pickle", "stack_global_out_of_the_memo", "inst", "obj", "protocol_0", "no_stop")
LOADER = """
import pickle, sys
with open(sys.argv[1], 'rb') as stream:
    try:
        while True:
            pickle.load(stream)
    except Exception:
        pass
"""


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_bad_pickles(tmp_path, case):
    require_refused(case, tmp_path)


@pytest.mark.parametrize("name", LIVE)
def test_the_payloads_are_live(tmp_path, name):
    """What must not run would run, if anything let it: otherwise the canaries prove nothing."""
    case = next(case for case in CASES if case.name == name)
    path = case.write(tmp_path, tmp_path / "canary")
    subprocess.run([sys.executable, "-W", "ignore", "-c", LOADER, str(path)], check=True)
    assert (tmp_path / "canary").exists()


def test_row_02_the_names_are_reported(tmp_path):
    problems = inspect_torch_zip(archive(pickled(tensor(), call("evilpkg", "go"), look_up("os", "system"))), "m.pth")
    assert [problem.message for problem in problems] == [
        "m.pth names evilpkg.go, which is code.",
        "m.pth names os.system, which is code.",
    ]


def test_row_02_hostile_names_are_cut_and_counted(tmp_path):
    names = [look_up("a\x1b[2J" + "x" * 500, f"f{index}") for index in range(50)]
    problems = inspect_torch_zip(archive(pickled(tensor(), *names)), "m.pth")
    assert len(problems) == 5
    assert all(len(problem.message) < 200 and problem.message.isprintable() for problem in problems)
    assert problems[-1].message.endswith("There are 45 more problems of this kind.")


def test_row_03_what_is_broken_is_said_too(tmp_path):
    problems = inspect_pickle(b"\x80\x02" + payload(tmp_path / "canary") + b"\xff", "m.pth")
    assert [problem.rule for problem in problems] == ["unsafe-serialisation", "malformed-file"]


def test_row_16_arrays_that_are_no_models(tmp_path):
    np.save(tmp_path / "model.npy", np.ones(3))
    np.savez(tmp_path / "model.npz", x=np.ones(3))
    for path in tmp_path.iterdir():
        assert [problem.rule for problem in problems_of(path)] == ["unknown-format"]


def test_row_16_arrays_of_objects(tmp_path):
    array = np.array([{"a": 1}, None], dtype=object)
    np.save(tmp_path / "model.npy", array, allow_pickle=True)
    np.savez(tmp_path / "model.npz", x=np.ones(3), y=array)
    np.savez_compressed(tmp_path / "packed.npz", y=array)
    for path in tmp_path.iterdir():
        assert [problem.rule for problem in problems_of(path)] == ["unsafe-serialisation"]


def test_row_16_keras_archive(tmp_path):
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as file:
        for name in ("metadata.json", "config.json", "model.weights.h5"):
            file.writestr(name, "{}")
    assert [problem.rule for problem in problems_of(tmp_path / "model.keras")] == ["unsafe-serialisation"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"(dp0\nS'a'\np1\nI1\ns.", "pickle"),
        (b"cos\nsystem\n(S'true'\ntR.", "pickle"),
        (b"cos\nsystem\n(S'true'\ntR broken", "pickle"),
        (b"}q\x00(X\x01\x00\x00\x00aK\x01u.", "pickle"),
        (b"copyright\nnobody\nand so on\n", "text"),
        (b"Nobody knows.", "text"),
        (b"(see below)\n", "text"),
        (b"[1, 2, 3]\n", "text"),
        (b'{"a": 1}\n', "text"),
        (b"I know\n", "text"),
        (b"\xfd7zXZ\x00", "xz"),
        (b"\x28\xb5\x2f\xfd\x00", "zstd"),
        (b"7z\xbc\xaf\x27\x1c", "7z"),
        (bytes(257) + b"ustar\x0000", "tar"),
        (b"GGUF\x03\0\0\0", "gguf"),
        (b"\x1c\0\0\0TFL3", "tflite"),
        (b"\x1c\0\0\0ORTM", "ort"),
        (b"PK\x05\x06" + bytes(18), "zip"),
    ],
)
def test_row_08_formats_are_told_apart(content, expected):
    assert sniff_stream(io.BytesIO(content)) == expected


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", b"hello, world\n"],
    ids=["empty", "html", "pointer", "text"],
)
def test_what_is_in_the_place_of_a_model(content):
    problems = inspect_unopened(content, "m", sniff_stream(io.BytesIO(content)))
    assert [problem.rule for problem in problems] == ["lfs-pointer-or-error-page"]


def test_every_format_that_is_told_is_opened_or_has_a_sentence():
    by_structure = {"torchscript", "keras", "npz", "zip", "zlib", "empty", "html", "text"}
    assert {name for name, _, _ in _format.MAGIC} | by_structure == UNOPENED.keys()
    for kind, why in UNOPENED.items():
        problem = inspect_unopened(b"", "m", kind)[-1]
        assert (problem.rule, problem.message, problem.remedy) == (why.rule, f"m {why.what}.", why.remedy)
        assert RULES[why.rule].refuses


# What torch writes.


def saved(value: object, *, old: bool = False) -> bytes:
    import torch

    stream = io.BytesIO()
    torch.save(value, stream, _use_new_zipfile_serialization=not old)
    return stream.getvalue()


def state_dict():
    """A small network with every kind of layer state: parameters, buffers, a counter, a metadata attribute."""
    torch = pytest.importorskip("torch")
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Linear(4, 2)).state_dict()


def checkpoint():
    torch = pytest.importorskip("torch")
    network = torch.nn.Linear(3, 2)
    optimiser = torch.optim.Adam(network.parameters())
    network(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    settings = {"lr": [0.1, 2], "name": "é", "huge": 2**70, "negative": -1, "none": None, "yes": True}
    return {"epoch": 3, "state_dict": network.state_dict(), "optimizer": optimiser.state_dict(), "settings": settings}


def tied():
    torch = pytest.importorskip("torch")
    weight = torch.ones(3, 4)
    views = {"again": weight, "transposed": weight.t(), "row": weight[1], "every_second": weight[:, ::2]}
    return {"weight": weight, **views, "parameter": torch.nn.Parameter(weight), "scalar": weight[2, 3]}


def kinds():
    torch = pytest.importorskip("torch")
    names = [
        "float16",
        "bfloat16",
        "float64",
        "complex64",
        "complex128",
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "bool",
    ]
    ones = {name: torch.ones(3).to(getattr(torch, name)) for name in names}
    return ones | {"empty": torch.zeros(0, 3), "scalar": torch.tensor(1.0), "conjugated": ones["complex64"].conj()}


def quantised():
    torch = pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated, but such files exist
        channels = torch.quantize_per_channel(
            torch.ones(2, 3), torch.tensor([0.1, 0.2]), torch.tensor([0, 0]), 0, torch.qint8
        )
        return {"tensor": torch.quantize_per_tensor(torch.ones(4), 0.1, 0, torch.quint8), "channel": channels}


def rarities():
    torch = pytest.importorskip("torch")
    return {
        "sparse": torch.eye(3).to_sparse(),
        "size": torch.Size([1, 2]),
        "type": torch.float32,
        "device": torch.device("cpu"),
        "bytes": b"abc",
        "bytearray": bytearray(b"abc"),
        "complex": 1j,
        "set": {1, 2},
        "counter": collections.Counter("aab"),
        "ordered": collections.OrderedDict(a=1),
        "tuple": (1, (2, ())),
        "subclass": torch.nn.parameter.Buffer(torch.ones(2)),
    }


def late_kinds():
    torch = pytest.importorskip("torch")
    return {
        name: torch.ones(4).to(getattr(torch, name))
        for name in ["float8_e4m3fn", "float8_e5m2", "float8_e5m2fnuz", "uint16", "uint32", "uint64"]
    }


GENUINE = (state_dict, checkpoint, tied, kinds, quantised, rarities)


@pytest.mark.parametrize("make", [*GENUINE, late_kinds], ids=lambda make: make.__name__)
def test_genuine_archives_pass(make):
    content = saved(make())
    assert inspect_torch_zip(content, "m") == []
    assert sniff_stream(io.BytesIO(content)) == "torch-zip"


@pytest.mark.parametrize("make", GENUINE, ids=lambda make: make.__name__)
def test_genuine_legacy_files_pass(make):
    content = saved(make(), old=True)
    assert inspect_pickle(content, "m") == []
    assert sniff_stream(io.BytesIO(content)) == "pickle"


@pytest.mark.parametrize("old", [False, True])
def test_the_weights_of_a_known_network_pass(old):
    torchvision = pytest.importorskip("torchvision")
    content = saved(torchvision.models.resnet18().state_dict(), old=old)
    assert (inspect_pickle if old else inspect_torch_zip)(content, "m") == []


def test_archives_without_checksums_pass():
    torch = pytest.importorskip("torch")
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        content = saved(state_dict())
    finally:
        torch.serialization.set_crc32_options(before)
    assert inspect_torch_zip(content, "m") == []


def test_files_of_old_torch_pass():
    """Storages that are parts of others, and tensors that are made empty first, as torch before 0.4 wrote them."""
    part = pickles.group(
        pickles.text("storage"),
        look_up("torch", "FloatStorage"),
        pickles.text("0"),
        pickles.text("cpu"),
        pickles.number(4),
        pickles.group(pickles.text("1"), pickles.number(1), pickles.number(3)),
    )
    state = pickles.group(
        part + b"Q", pickles.number(0), pickles.group(pickles.number(3)), pickles.group(pickles.number(1))
    )
    early = look_up("torch", "FloatTensor") + b")\x81" + state + b"b"
    assert inspect_pickle(legacy(pickled(tensor(legacy=True), early)), "m") == []
    outside = early.replace(pickles.number(3), pickles.number(4))
    assert [problem.rule for problem in inspect_pickle(legacy(pickled(outside)), "m")] == ["inconsistent-tensors"]


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32", "float64", "complex64"])
def test_weights_that_are_not_finite(name, old):
    torch = pytest.importorskip("torch")
    weights = torch.ones(300_000).to(getattr(torch, name))
    weights[299_999] = float("inf")
    problems = (inspect_pickle if old else inspect_torch_zip)(saved({"v": torch.ones(2), "w": weights}, old=old), "m")
    assert [problem.message for problem in problems] == ["m holds weights that are infinite or no numbers: w."]
    unseen = saved({"w": weights[:299_999]}, old=old)
    assert (inspect_pickle if old else inspect_torch_zip)(unseen, "m") == []


def test_numpy_scalars_are_refused_as_torch_refuses_them():
    torch = pytest.importorskip("torch")
    content = saved({"best": np.float64(0.5), "w": torch.ones(2)})
    assert "unsafe-serialisation" in {problem.rule for problem in inspect_torch_zip(content, "m")}
    with pytest.raises(pickle.UnpicklingError):
        torch.load(io.BytesIO(content), weights_only=True)


# Names that this list has and an older torch (2.10 on) may not have.
LATER = {"torch.bcomplex32"}


def test_the_allowed_names_are_those_of_torch():
    pytest.importorskip("torch")
    from torch import _weights_only_unpickler as loader

    installed = set(loader._get_allowed_globals())
    assert installed - ALLOWED == set()
    assert ALLOWED - installed <= LATER
    imported = {name for name, value in vars(loader).items() if name.isupper() and value == getattr(pickle, name, 0)}
    assert {CODES[name] for name in imported} == READ_BY_TORCH


def test_every_opcode_of_python_is_known():
    import pickletools

    assert {opcode.name for opcode in pickletools.opcodes} - {"STOP"} == set(METHODS)


@pytest.mark.parametrize("protocol", range(6))
def test_pickles_of_every_protocol_are_read_to_their_end(protocol):
    value = {
        "a": [1, -2, 2**40, 2**70, 0.5, None, True],
        "b": ("é", b"x" * 5000, {3}, frozenset((4,))),
        5: {},
        "c": len,
    }
    content = pickle.dumps(value, protocol)
    reading = read_pickle(content, 0, Symbols())
    assert (reading.broken, reading.end) == (None, len(content))
    assert "builtins.len" in reading.names


# Whatever is done to good files, the inspection ends, with a verdict and within its memory.

LARGEST_MEMORY = 64 << 20


@functools.cache
def good_files() -> tuple[bytes, ...]:
    made = (archive(pickled(tensor())), legacy(pickled(tensor(legacy=True))), safetensors_files.GOOD)
    return *made, archives.packed(archives.GOOD, {"0": bytes(16)}), saved(state_dict()), saved(state_dict(), old=True)


def inspect_anything(content: bytes) -> None:
    for inspect in (inspect_torch_zip, inspect_pickle, inspect_safetensors):
        for problem in inspect(content, "m"):
            assert problem.message.isprintable()
    inspect_unopened(content, "m", sniff_stream(io.BytesIO(content)))


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_changed_files_never_crash_the_inspection(data):
    content = bytearray(data.draw(st.sampled_from(good_files())))
    for _ in range(data.draw(st.integers(1, 6))):
        position = data.draw(st.integers(0, len(content) - 1))
        raw = data.draw(
            st.one_of(st.binary(min_size=1, max_size=8), st.sampled_from([b"\xff" * 4, b"\xff" * 8, bytes(8)]))
        )
        content[position : position + data.draw(st.sampled_from([0, len(raw)]))] = raw
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(1, len(content))) :]
    tracemalloc.start()
    try:
        inspect_anything(bytes(content))
        assert tracemalloc.get_traced_memory()[1] < LARGEST_MEMORY
    finally:
        tracemalloc.stop()


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.lists(
        st.sampled_from([bytes([code]) for code in range(256)] + [b"(", b")", b"R", b"b", b"Q", tensor()]), max_size=60
    )
)
def test_random_opcodes_never_crash_the_inspection(opcodes):
    content = b"\x80\x02" + b"".join(opcodes)
    assert inspect_pickle(content, "m")
    inspect_torch_zip(archive(content), "m")
