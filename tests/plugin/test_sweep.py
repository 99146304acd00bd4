"""Models below a scanned folder that nobody listed fail the run once there is a lock file."""

from __future__ import annotations

import io
import pathlib
import pickle
import shutil
import struct
import sys

import onnxruntime
import pytest
import safetensors.numpy

from pytest_backdoor.checks.provenance._sweep import MODEL_FORMATS
from pytest_backdoor.cli import main
from pytest_backdoor.models._disguise import loadable_as

SWEEP = "models::unlisted-models"


@pytest.fixture
def locked(project, monkeypatch):
    """A repository whose one model is listed."""
    project.add("models/model.onnx")
    monkeypatch.chdir(project.path)
    monkeypatch.delenv("CI", raising=False)
    assert main(["lock", "add", "models/model.onnx"]) == 0
    return project


def sweep_only(project, *arguments):
    return project.run("--backdoor-scan", "--backdoor-checks=provenance", "--backdoor-allow-unverified", *arguments)


@pytest.mark.parametrize("distributed", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_model_under_another_name_fails(locked, distributed):
    shutil.copy(locked.path / "models" / "model.onnx", locked.path / "models" / "weights.bin")
    result = sweep_only(locked, "models", "--backdoor-report=report.json", *distributed)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        ["*models/weights.bin is a model by its content (onnx)*", "*unlocked-file*", f"FAILED {SWEEP}*"]
    )
    assert locked.outcomes()["models/weights.bin"] == {"provenance": "failed"}
    (problem,) = locked.findings()["models/weights.bin::provenance"]["problems"]
    assert problem["rule"] == "unlocked-file"
    assert "pytest-backdoor lock add models/weights.bin" in problem["remedy"]


def test_everything_listed_passes(locked):
    (locked.path / "models" / "README.md").write_text("# Models")
    (locked.path / "models" / "labels.bin").write_bytes(bytes(range(256)))
    result = sweep_only(locked, "models")
    assert result.ret == 0
    result.assert_outcomes(passed=2)


@pytest.mark.parametrize("folder", [".hidden", "build", "node_modules/x"])
def test_folders_that_pytest_does_not_enter_are_looked_through(locked, folder):
    locked.add(f"models/{folder}/other.onnx")
    result = sweep_only(locked, "models")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([f"*models/{folder}/other.onnx is a model by its content*"])


def test_the_running_virtual_environment_is_left_out(locked, monkeypatch):
    locked.write("models/venv/pyvenv.cfg", "home = /usr")
    locked.add("models/venv/lib/other.onnx")
    monkeypatch.setattr(sys, "prefix", str(locked.path / "models" / "venv"))
    assert sweep_only(locked, "models").ret == 0


@pytest.mark.parametrize("name", ["hidden/pyvenv.cfg", "hidden/conda-meta/history", "__pycache__/x"])
def test_what_only_looks_like_an_environment_is_looked_through(locked, name):
    """Whoever adds a model may add such a file as well."""
    locked.write(f"models/{name}", "home = /usr")
    folder = name.partition("/")[0]
    locked.add(f"models/{folder}/other.onnx")
    result = sweep_only(locked, "models")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([f"*models/{folder}/other.onnx is a model by its content*"])


@pytest.mark.parametrize("name", ["weights.bin", ".hidden/net.onnx", "build/net.onnx"])
@pytest.mark.parametrize("distributed", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_listed_file_that_no_scan_collects_is_compared(locked, name, distributed):
    """It is called unlike a model, or lies where pytest does not look."""
    locked.add(f"models/{name}")
    assert main(["lock", "add", f"models/{name}"]) == 0
    assert sweep_only(locked, "models", *distributed).ret == 0
    locked.add(f"models/{name}", "bad")
    result = sweep_only(locked, "models", "--backdoor-report=report.json", *distributed)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([f"models/{name} changed: SHA-256*", "*hash-mismatch*"])
    (problem,) = locked.findings()[f"models/{name}::provenance"]["problems"]
    assert problem["rule"] == "hash-mismatch"


def test_listed_file_that_is_ignored_or_deselected_is_compared(locked):
    locked.add("models/model.onnx", "bad")
    for arguments in (["--ignore=models/model.onnx"], ["-k", "litmus"], ["--deselect=models/model.onnx"]):
        result = locked.run("--backdoor-scan", "--backdoor-checks=provenance,litmus", "models", *arguments)
        assert result.ret == pytest.ExitCode.TESTS_FAILED
        result.stdout.fnmatch_lines(["models/model.onnx changed: SHA-256*"])


def test_listed_file_that_is_gone_fails(locked):
    locked.add("models/other.onnx")
    (locked.path / "models" / "model.onnx").unlink()
    result = sweep_only(locked, "models")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["models/model.onnx is listed in models.lock and does not exist.*"])


def test_another_file_of_a_like_name_is_not_the_listed_one(locked):
    """Two Unicode forms of one name are two files, of which the lock file lists one."""
    listed, other = "models/\u00e9.bin", "models/e\u0301.bin"
    locked.add(listed)
    assert main(["lock", "add", listed]) == 0
    locked.add(other, "bad")
    if (locked.path / listed).samefile(locked.path / other):
        pytest.skip("one file on this file system")
    assert sweep_only(locked, "models").ret == pytest.ExitCode.TESTS_FAILED


def test_link_to_a_folder_elsewhere_fails(locked):
    locked.add("elsewhere/other.bin")
    (locked.path / "models" / "linked").symlink_to("../elsewhere", target_is_directory=True)
    result = sweep_only(locked, "models")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["models/linked is a link out of the scanned folder*"])


def test_name_that_would_write_to_the_terminal_is_escaped(locked):
    shutil.copy(locked.path / "models" / "model.onnx", locked.path / "models" / "\x1b[2Jok\n.bin")
    result = sweep_only(locked, "models", "--backdoor-report=report.json")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert "\x1b[2J" not in result.stdout.str()
    result.stdout.fnmatch_lines([r"*models/\x1b*2Jok\n.bin*"])


def varint(value):
    written = bytearray()
    while value >= 0x80:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*written, value])


# Fields that readers of protobuf step over, put before a model: they look like something else.
BEFORE_A_MODEL = {
    "zlib": b"x\x01",
    "xz": b"\xfd7zXZ\x00",
    "zstd": b"\x28\xb5\x2f" + varint(2000 << 3) + b"\x01",
    "text": b"2" + varint(5000) + b"A" * 5000,
    "tar": b"2" + varint(300) + b"A" * 254 + b"ustar" + b"A" * 41,
    "unknown_field": varint(900 << 3) + b"\x01",
    "high_field": varint(2000 << 3) + b"\x01",
    "group": varint(900 << 3 | 3) + varint(900 << 3 | 4),
    "high_tag": varint((1 << 32) + (900 << 3)) + b"\x01",
}


@pytest.mark.parametrize("before", BEFORE_A_MODEL.values(), ids=BEFORE_A_MODEL)
def test_model_that_looks_like_something_else_is_seen(locked, before):
    content = before + (locked.path / "models" / "model.onnx").read_bytes()
    onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])  # for it, this is a model
    assert kind_of(content) == "onnx"
    (locked.path / "models" / "notes").write_bytes(content)
    assert sweep_only(locked, "models").ret == pytest.ExitCode.TESTS_FAILED


def text_of(length):
    return struct.pack("<I", length) + b"A" * length


# What a pickle may push and forget before it does anything.
BEFORE_A_PICKLE = {
    "long_line": b"S'" + b"A" * 5000 + b"'\n0",
    "long_text": b"X" + text_of(5000) + b"0",
    "bzip2": b"BZh\x00\x00" + b"A" * 0x685A + b"0",
    "gguf": b"GGUF" + bytes(5) + b"0",
    "tar": b"X" + struct.pack("<I", 300) + b"A" * 252 + b"ustar" + b"A" * 43 + b"0",
    "large_memo": b"Nr\xff\xff\x00\x00" + b"0",
}


@pytest.mark.parametrize("before", BEFORE_A_PICKLE.values(), ids=BEFORE_A_PICKLE)
def test_pickle_that_looks_like_something_else_is_seen(before):
    content = before + pickle.dumps(pathlib.PurePosixPath("inert"), 0)
    assert pickle.loads(content) == pathlib.PurePosixPath("inert")
    assert kind_of(content) == "pickle"


def test_safetensors_with_white_space_before_its_header_are_seen():
    header = b" \n" * 3000 + b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    content = struct.pack("<Q", len(header)) + header + bytes(4)
    assert safetensors.numpy.load(content)["w"] == 0
    assert kind_of(content) == "safetensors"


@pytest.mark.parametrize(
    "content",
    [b"", b"Karl said r\n" * 900, b"const a=1;" * 900, b"In this file\n" * 900, bytes(range(256)) * 40],
)
def test_other_files_are_no_models(content):
    assert kind_of(content) not in MODEL_FORMATS


def kind_of(content):
    return loadable_as(io.BytesIO(content))


def test_pickle_is_a_model(locked):
    (locked.path / "models" / "state.dat").write_bytes(pickle.dumps({"weight": 1}))
    assert sweep_only(locked, "models").ret == pytest.ExitCode.TESTS_FAILED


def test_selection_does_not_leave_it_out(locked):
    shutil.copy(locked.path / "models" / "model.onnx", locked.path / "models" / "weights.bin")
    result = sweep_only(locked, "models", "-k", "model.onnx")
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_only_what_was_asked_for_is_looked_through(locked):
    locked.add("elsewhere/other.onnx")
    assert sweep_only(locked, "models").ret == 0
    assert sweep_only(locked, "models/model.onnx").ret == 0


def test_no_lock_file_no_sweep(project):
    project.add("models/model.onnx")
    project.add("models/weights.bin")
    result = sweep_only(project, "models")
    result.assert_outcomes(skipped=1)


def test_sweep_belongs_to_provenance(locked):
    shutil.copy(locked.path / "models" / "model.onnx", locked.path / "models" / "weights.bin")
    result = locked.run("--backdoor-scan", "--backdoor-checks=litmus", "models")
    result.assert_outcomes(passed=1)


def test_broken_lock_is_explained(locked):
    (locked.path / "models.lock").write_text("lock-version = 1")
    result = sweep_only(locked, "models")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["The lock file *models.lock is not valid*"])
    result.stdout.no_fnmatch_line("*Traceback*")
