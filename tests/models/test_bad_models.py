from __future__ import annotations

import io
import os
import pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from onnx_builders import SHAPE, finding, linear_model, save, weights, with_external_data

from pytest_backdoor.errors import ModelError
from pytest_backdoor.findings import Outcome
from pytest_backdoor.models import Subject
from pytest_backdoor.scanning import scan
from pytest_backdoor.settings import ScanSettings

links = pytest.mark.skipif(os.name == "nt", reason="links need privileges there")
GOOD = linear_model().SerializeToString()
NAN, INFINITE = (np.full_like(weights(), value) for value in (np.nan, np.inf))


def require_error(path: Path, *texts: str, outcome: Outcome = Outcome.ERROR, **settings: object) -> None:
    found = finding(path, **settings)
    assert found.outcome is outcome
    assert path.name in found.summary
    for text in texts:
        assert text in found.summary
    # One paragraph that a person reads, without another library's source code.
    assert "\n" not in found.summary
    assert "::" not in found.summary
    assert 30 < len(found.summary) < 800


@dataclass(frozen=True)
class Bad:
    name: str
    content: bytes
    texts: tuple[str, ...]
    file: str = "net.onnx"


FETCH = "Fetch the file again or export the model again."
FILES = [
    Bad("empty", b"", ("is an empty file. Fetch or export",)),
    Bad("cut short", GOOD[:-40], ("cannot be parsed as ONNX", FETCH)),
    Bad("cut in the first field", GOOD[:3], ("cannot be parsed as ONNX", FETCH)),
    Bad("cut with a location", GOOD[:-40] + b"location", ("cannot be parsed as ONNX", FETCH)),
    Bad("text", b"hello there, this is a note\n" * 4, ("is a text file", "fetch the file again")),
    Bad("HTML", b"<!DOCTYPE html><html><body>Sign in</body></html>", ("is an HTML page", "Fetch the file again")),
    Bad("LFS", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", ("Run git lfs pull.",)),
    Bad("random", np.random.default_rng(0).bytes(5000), ("is in no format that can be audited. Give an ONNX model",)),
    Bad("zeros", bytes(5000), ("is in no format that can be audited",)),
    Bad("Keras", b"\x89HDF\r\n\x1a\n" + bytes(99), ("Export the model to ONNX, say with tf2onnx.",), "net.pt"),
    Bad("numbers", b"PK\x03\x04" + bytes(300), ("is in no format that can be audited",), "net.pth"),
]


@pytest.mark.parametrize("case", FILES, ids=lambda case: case.name)
def test_files_that_are_no_models(tmp_path, case):
    path = tmp_path / case.file
    path.write_bytes(case.content)
    require_error(path, *case.texts)


MODELS = {
    "two inputs": ({"inputs": 2}, "takes 2 inputs (x0, x1)", "Export the model with its other inputs fixed."),
    "two outputs": ({"outputs": 2}, "has 2 floating-point outputs (of y0, y1)", "with that output alone"),
    "integer output": ({"output": 7}, "has 0 floating-point outputs", "with that output alone"),
    "regression": ({"matrix": weights()[:, :1]}, "output of shape [4, 1]", "only image classifiers"),
    "rank 2": ({"stated": ("n", 90)}, "input of shape ['n', 90]", "Only image classifiers can be audited."),
    "rank 5": ({"stated": ("n", 3, 2, 3, 5)}, "an image input has four dimensions"),
    "open size": ({"stated": ("n", 3, "h", "w")}, "leaves the size of its images open", "set input_shape = ["),
    "NaN weights": ({"matrix": NAN}, "not finite numbers (NaN or infinity)", "check its weights"),
    "infinite weights": ({"matrix": INFINITE}, "not finite numbers (NaN or infinity)", "check its weights"),
    "NaN softmax": ({"matrix": NAN, "head": "softmax"}, "not finite numbers (NaN or infinity)"),
    "custom operator": ({"domain": "my.ops", "operator": "Secret"}, "my.ops:Secret", FETCH),
    "unknown operator": ({"operator": "Secret"}, "No Op registered for Secret", FETCH),
    "opset 999": ({"opset": 999}, "version 999 of the operators", "Upgrade onnx and onnxruntime"),
    "wrong batch": ({"stated": (2, 3, 6, 5), "spatial": True, "matrix": weights()[:90, :1]}, "output of shape"),
}


@pytest.mark.parametrize("name", MODELS)
def test_models_that_are_no_image_classifiers(tmp_path, name):
    options, *texts = MODELS[name]
    require_error(save(tmp_path / "net.onnx", linear_model(**options)), *texts)


def test_token_input_is_no_image(tmp_path):
    model = linear_model()
    model.graph.input[0].type.tensor_type.elem_type = 7
    require_error(save(tmp_path / "net.onnx", model), "input of type tensor(int64)", "Export the model with such an")


def neighbour(folder: Path) -> None:
    (folder.parent / "secret.bin").write_bytes(weights().tobytes())


def hard_link(folder: Path) -> None:
    neighbour(folder)
    os.link(folder.parent / "secret.bin", folder / "net.bin")


def soft_link(folder: Path) -> None:
    neighbour(folder)
    (folder / "net.bin").symlink_to(folder.parent / "secret.bin")


def pipe(folder: Path) -> None:
    os.mkfifo(folder / "net.bin")


def short(folder: Path) -> None:
    (folder / "net.bin").write_bytes(bytes(100))


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("prepare", "location", "entries", "text"),
    [
        (None, "net.bin", {}, "net.bin, external data of"),
        (None, "", {}, "not a file below the model's folder"),
        (
            neighbour,
            "../secret.bin",
            {},
            "the external data ../secret.bin, which is not a file",
        ),
        (neighbour, "a/../../secret.bin", {}, "which is not a file below the model's folder"),
        (neighbour, "..\\secret.bin", {}, "which is not a file below the model's folder"),
        (neighbour, "secret.bin\0x", {}, "which is not a file below the model's folder"),
        (neighbour, "*/_ORT_MEM_ADDR_/*", {"offset": "4096"}, "which is not a file below the model's folder"),
        pytest.param(hard_link, "net.bin", {}, "is a hard link to a file with another name", marks=links),
        pytest.param(soft_link, "net.bin", {}, "leads out of the model's folder", marks=links),
        pytest.param(pipe, "net.bin", {}, "is not a regular file", marks=links),
        (short, "net.bin", {"length": "1440"}, "that"),
        (
            short,
            "net.bin",
            {"offset": "-4"},
            "does not hold in that place and size. Fetch the model and its external data again",
        ),
        (
            short,
            "net.bin",
            {"offset": "200"},
            "does not hold in that place and size. Fetch the model and its external data again",
        ),
        (
            short,
            "net.bin",
            {"length": str(2**40)},
            "does not hold in that place and size. Fetch the model and its external data again",
        ),
        (
            short,
            "net.bin",
            {"offset": "four"},
            "does not hold in that place and size. Fetch the model and its external data again",
        ),
        (short, "net.bin", {}, "does not hold in that place and size"),
    ],
)
def test_external_data_that_are_missing_or_hostile(tmp_path, prepare, location, entries, text):
    folder = tmp_path / "models"
    path = save(folder / "net.onnx", with_external_data(linear_model(), location, **entries))
    if prepare:
        prepare(folder)
    require_error(path, text)


@links
def test_a_sparse_file_is_not_read_into_memory(tmp_path):
    path = save(tmp_path / "net.onnx", with_external_data(linear_model(), "net.bin"))
    with (tmp_path / "net.bin").open("wb") as stream:
        stream.truncate(2**40)
    require_error(path, "it is a sparse file and no model")


@links
def test_hostile_external_data_are_refused_where_provenance_is_not_asked_for(tmp_path):
    (tmp_path / "models").mkdir()
    hard_link(tmp_path / "models")
    path = save(tmp_path / "models" / "net.onnx", with_external_data(linear_model(), "net.bin"))
    report = scan(path, checks=["litmus"], root=tmp_path).models[0]
    assert [found.outcome for found in report.findings] == [Outcome.ERROR]
    assert "hard link" in report.findings[0].summary
    assert report.task is None


def folder(path: Path) -> None:
    path.mkdir()


def vanished(path: Path) -> None:
    path.write_bytes(GOOD)
    path.unlink()


def unreadable(path: Path) -> None:
    path.write_bytes(GOOD)
    path.chmod(0)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("prepare", "text"),
    [
        (folder, "name the model file itself"),
        (vanished, "does not exist; check the name"),
        pytest.param(os.mkfifo if hasattr(os, "mkfifo") else None, "is not a regular file", marks=links),
        pytest.param(
            unreadable,
            "check the name and the permissions",
            marks=pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() == 0, reason="root reads everything"),
        ),
    ],
)
def test_what_is_no_readable_file(tmp_path, prepare, text):
    prepare(tmp_path / "net.onnx")
    require_error(tmp_path / "net.onnx", text)


# Weight files


def torch_file(value: object, **options: object) -> bytes:
    torch = pytest.importorskip("torch")
    buffer = io.BytesIO()
    torch.save(value, buffer, **options)
    return buffer.getvalue()


def hostile(marker: Path) -> object:
    pytest.importorskip("torch")
    from weight_files import RunsCode

    return {"conv.weight": RunsCode(marker)}


HOSTILE: dict[str, Callable[[Path], bytes]] = {
    "torch": lambda marker: torch_file(hostile(marker)),
    "legacy torch": lambda marker: torch_file(hostile(marker), _use_new_zipfile_serialization=False),
    **{f"pickle {n}": lambda marker, n=n: pickle.dumps(hostile(marker), protocol=n) for n in range(6)},
    "pickle cut short": lambda marker: pickle.dumps(hostile(marker), protocol=2)[:-1],
}


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_file_that_would_run_code_is_refused_under_every_name(tmp_path, monkeypatch, kind, force):
    if force:
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    marker = tmp_path / "marker"
    content = HOSTILE[kind](marker)
    for name in ("net.pt", "net.pth", "net.onnx", "net.safetensors"):
        path = tmp_path / name
        path.write_bytes(content)
        require_error(path, factory="weight_files:make_net", input_shape=SHAPE)
        assert not marker.exists()
    if kind == "pickle 4":
        pickle.loads(content)  # shows that the file is as hostile as it is meant to be
        assert marker.exists()


@pytest.mark.parametrize("name", ["net.pt", "net.onnx"])
def test_the_code_that_a_file_names_is_told_and_no_way_around_it(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(HOSTILE["torch"](tmp_path / "marker"))
    require_error(path, "net.", ".system, which is code", "the state dict alone")
    assert "weights_only" not in finding(path).summary


def test_a_whole_module_is_refused_before_the_factory_is_asked_for(tmp_path):
    pytest.importorskip("torch")
    from weight_files import make_net

    path = tmp_path / "net.pt"
    path.write_bytes(torch_file(make_net()))
    require_error(path, "net.pt names weight_files.Net, which is code", "ask its author for safetensors or ONNX")


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore:.*torch.jit:DeprecationWarning")
def test_torchscript_is_refused(tmp_path):
    torch = pytest.importorskip("torch")
    for name in ("net.pt", "net.onnx"):
        torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)), str(tmp_path / name))
        require_error(tmp_path / name, "a program that runs when it is opened", "Export the model to ONNX")


def state(**changes: object) -> dict[str, object]:
    pytest.importorskip("torch")
    from weight_files import make_net

    return {**make_net().state_dict(), **changes}


FACTORY = "weight_files:make_net"
WEIGHTS = [
    ("no factory", lambda: torch_file(state()), None, ("set factory = 'package.module:function'",)),
    (
        "other network",
        lambda: torch_file(state()),
        "weight_files:make_wide_net",
        ("do not fit weight_files:make_wide",),
    ),
    ("missing module", lambda: torch_file(state()), "no_such_module:f", ("No module named", "must be importable")),
    ("missing function", lambda: torch_file(state()), "weight_files:nothing", ("AttributeError", "must be importable")),
    ("failing factory", lambda: torch_file(state()), "weight_files:raises", ("RuntimeError: no such thing.",)),
    ("factory that exits", lambda: torch_file(state()), "weight_files:leaves", ("SystemExit: 3.",)),
    ("factory of text", lambda: torch_file(state()), "weight_files:returns_text", ("gave no torch.nn.Module",)),
    ("no tensors", lambda: torch_file({"epoch": 3}), FACTORY, ("holds no state dict; save",)),
    ("a list", lambda: torch_file([1, 2]), FACTORY, ("holds no state dict; save",)),
    (
        "cut short",
        lambda: torch_file(state())[:-300],
        FACTORY,
        ("archive without an end", "Fetch the file again"),
    ),
    ("empty state dict", lambda: torch_file({}), FACTORY, ("do not fit", "Missing key")),
    (
        "garbage",
        lambda: b"\x80\x02garbage",
        FACTORY,
        ("a line without an end", "Fetch the file again"),
    ),
    ("safetensors header", lambda: b"\x20" + bytes(7) + b'{"a": ' + b" " * 26, FACTORY, ("Fetch the file again",)),
    ("safetensors length", lambda: b"\xff\xff\x0f" + bytes(5) + b"{}" * 9, FACTORY, ("Fetch the file again",)),
]


@pytest.mark.parametrize(
    ("make", "factory", "texts"), [case[1:] for case in WEIGHTS], ids=[case[0] for case in WEIGHTS]
)
def test_weights_that_cannot_be_put_into_a_network(tmp_path, make, factory, texts):
    pytest.importorskip("torch")
    path = tmp_path / "net.pt"
    path.write_bytes(make())
    require_error(path, *texts, factory=factory, input_shape=SHAPE)


def test_the_size_of_the_images_has_to_be_known(tmp_path):
    path = tmp_path / "net.pt"
    path.write_bytes(torch_file(state()))
    require_error(path, "set input_shape = [channels, height, width]", factory=FACTORY)


def test_a_network_that_does_not_take_the_images_is_an_error(tmp_path):
    path = tmp_path / "net.pt"
    path.write_bytes(torch_file(state()))
    require_error(path, "fails on images of shape [1, 6, 5]", "Check", factory=FACTORY, input_shape=(1, 6, 5))


def test_without_torch_weights_are_not_assessed(tmp_path, monkeypatch):
    path = tmp_path / "net.pt"
    path.write_bytes(torch_file(state()))
    monkeypatch.setitem(sys.modules, "torch", None)
    require_error(path, "needs torch", "export to ONNX", outcome=Outcome.NOT_ASSESSED, factory=FACTORY)


def test_an_error_is_raised_again_without_opening_the_file_again(tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(GOOD[:-40])
    subject = Subject("net.onnx", ScanSettings(), path=path)
    errors = []
    for _ in range(2):
        with pytest.raises(ModelError) as caught:
            _ = subject.classifier
        errors.append(caught.value)
    assert errors[0] is errors[1]
