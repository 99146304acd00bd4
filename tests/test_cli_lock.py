from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from itertools import chain
from pathlib import Path

import pytest
from onnx import TensorProto, helper

from pytest_backdoor.checks.provenance import _record
from pytest_backdoor.checks.provenance._lockfile import read_lock
from pytest_backdoor.cli import DIFFERENT, OK, WRONG, main
from pytest_backdoor.errors import LockError

SAFETENSORS = b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "


def onnx_bytes(location: str | None = None) -> bytes:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], raw_data=b"\0\0\0\0")
    if location is not None:
        tensor = TensorProto(name="w", data_type=1, dims=[1], data_location=TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value=location)
    content: bytes = helper.make_model(helper.make_graph([], "g", [], [], [tensor])).SerializeToString()
    return content


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch) -> Path:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.onnx").write_bytes(onnx_bytes())
    (tmp_path / "sub" / "b.safetensors").write_bytes(SAFETENSORS)
    return tmp_path


def listed(project: Path) -> list[str]:
    return [artifact.path for artifact in read_lock(project / "models.lock").artifacts]


def add(*arguments: str) -> int:
    return main(["lock", "add", *arguments])


def test_adding_lists_path_hash_and_size(project, capsys):
    assert add("a.onnx", "sub/b.safetensors") == OK
    output = capsys.readouterr().out
    for name in ("a.onnx", "sub/b.safetensors"):
        content = (project / name).read_bytes()
        assert f"{name}  sha256 {hashlib.sha256(content).hexdigest()}  {len(content)} bytes" in output
    assert "trust-on-first-use" in output
    assert "not proof of who published it" in output
    assert listed(project) == ["a.onnx", "sub/b.safetensors"]
    found = read_lock(project / "models.lock").find("sub/b.safetensors")
    assert found is not None
    assert found.format == "safetensors"
    assert found.claims["source"] == {"type": "local"}
    assert found.claims["recorded"]["tool"].startswith("pytest-backdoor ")


def test_paths_are_relative_to_the_lock_file_wherever_the_command_runs(project, monkeypatch):
    monkeypatch.chdir(project / "sub")
    assert add("b.safetensors", str(project / "a.onnx")) == OK
    assert listed(project) == ["a.onnx", "sub/b.safetensors"]
    assert main(["lock", "check", "b.safetensors"]) == OK


def test_external_data_are_listed_with_the_model(project, capsys):
    (project / "sub" / "c.onnx").write_bytes(onnx_bytes("c.bin"))
    assert add("sub/c.onnx") == WRONG
    assert "c.bin" in capsys.readouterr().err
    (project / "sub" / "c.bin").write_bytes(b"1234")
    assert add("sub/c.onnx") == OK
    assert [file.path for file in read_lock(project / "models.lock").artifacts[0].external] == ["sub/c.bin"]
    (project / "sub" / "c.bin").write_bytes(b"1235")
    assert main(["lock", "check"]) == DIFFERENT
    capsys.readouterr()
    assert main(["lock", "update", "sub/c.onnx"]) == OK
    assert "→" in capsys.readouterr().out
    assert main(["lock", "check"]) == OK


def test_checking_tells_what_differs(project, capsys):
    add("a.onnx", "sub/b.safetensors")
    assert main(["lock", "check"]) == OK
    (project / "a.onnx").write_bytes(onnx_bytes()[::-1])
    assert main(["lock", "check"]) == DIFFERENT
    output = capsys.readouterr().out
    assert "FAIL  a.onnx" in output
    assert "ok    sub/b.safetensors" in output
    assert main(["lock", "check", "sub/b.safetensors"]) == OK
    (project / "sub" / "b.safetensors").unlink()
    assert main(["lock", "check", "sub/b.safetensors"]) == DIFFERENT


def test_checking_what_is_not_listed_fails(project, capsys):
    add("a.onnx")
    assert main(["lock", "check", "sub/b.safetensors"]) == DIFFERENT
    assert "not listed" in capsys.readouterr().out


def test_checking_nothing_is_not_success(project, capsys):
    assert main(["lock", "check"]) == WRONG
    assert "pytest-backdoor lock add" in capsys.readouterr().err
    (project / "models.lock").write_text('lock-version = "1"')
    assert main(["lock", "check"]) == WRONG
    assert "nothing was checked" in capsys.readouterr().err


def test_listing(project, capsys):
    add("a.onnx")
    capsys.readouterr()
    assert main(["lock", "list"]) == OK
    assert "a.onnx  sha256" in capsys.readouterr().out


def test_adding_the_same_file_again_changes_nothing(project, capsys):
    add("a.onnx")
    before = (project / "models.lock").read_bytes()
    assert add("a.onnx") == OK
    assert "nothing changed" in capsys.readouterr().out
    assert (project / "models.lock").read_bytes() == before


def test_a_changed_file_needs_update(project, capsys):
    add("a.onnx")
    old = read_lock(project / "models.lock").artifacts[0].sha256
    (project / "a.onnx").write_bytes(onnx_bytes() + b"\x12\x01p")
    assert add("a.onnx") == WRONG
    assert "lock update" in capsys.readouterr().err
    assert read_lock(project / "models.lock").artifacts[0].sha256 == old
    assert main(["lock", "update", "a.onnx"]) == OK
    new = read_lock(project / "models.lock").artifacts[0].sha256
    assert f"{old} → {new}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is an empty file. Fetch or export"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<!doctype html>", "is an HTML page, not a model"),
        (b"hello", "is a text file"),
        (b"\x89HDF\r\n\x1a\n", "say with tf2onnx"),
        (b"\0\0\0\0", "is in no format that can be audited"),
        (onnx_bytes()[:-3], "cannot be parsed"),
        (onnx_bytes("../a.onnx"), "not a file below the model's folder"),
        (None, "does not exist"),
    ],
)
def test_a_bad_file_is_refused_and_nothing_is_written(project, capsys, content, reason):
    if content is not None:
        (project / "bad.onnx").write_bytes(content)
    assert add("a.onnx", "bad.onnx") == WRONG
    error = capsys.readouterr().err
    assert reason in error
    assert "bad.onnx" in error
    assert not (project / "models.lock").exists()
    assert add("a.onnx") == OK
    before = (project / "models.lock").read_bytes()
    assert add("sub/b.safetensors", "bad.onnx") == WRONG
    assert (project / "models.lock").read_bytes() == before


def test_folders_and_files_outside_the_project_are_refused(project, tmp_path_factory, capsys):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "x.onnx"
    elsewhere.write_bytes(onnx_bytes())
    assert add("sub") == WRONG
    assert "not a regular file" in capsys.readouterr().err
    assert add(str(elsewhere)) == WRONG
    assert "lies outside" in capsys.readouterr().err


def test_a_broken_lock_file_is_not_overwritten(project, capsys):
    (project / "models.lock").write_text("oops")
    assert add("a.onnx") == WRONG
    assert (project / "models.lock").read_text() == "oops"


@pytest.mark.skipif(os.name == "nt", reason="such names do not exist there")
@pytest.mark.parametrize("name", ["a\nb.onnx", "a\x1b[31m.onnx", os.fsdecode(b"\xff.onnx")])
def test_a_name_cannot_forge_a_line_of_output(project, capsys, name):
    (project / name).write_bytes(onnx_bytes())
    assert add(name) == WRONG
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "\x1b" not in error


@pytest.mark.parametrize(("value", "status"), [("true", WRONG), ("1", WRONG), ("false", OK), ("0", OK), ("", OK)])
def test_a_build_does_not_approve_its_own_models(project, monkeypatch, capsys, value, status):
    monkeypatch.setenv("CI", value)
    assert add("a.onnx") == status
    assert ("CI is set" in capsys.readouterr().err) == (status == WRONG)
    assert (project / "models.lock").exists() == (status == OK)
    assert add("a.onnx", "--allow-ci") == OK
    assert main(["lock", "check"]) == OK


def test_hub_names_are_looked_for_in_the_local_cache(project, monkeypatch, capsys):
    import huggingface_hub.constants

    commit = "0" * 40
    name = f"hf://org/name@{commit}/m.safetensors"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(project / "hub"))
    assert add(name) == WRONG
    assert f"hf download org/name m.safetensors --revision {commit}" in capsys.readouterr().err
    snapshot = project / "hub" / "models--org--name" / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (snapshot / "m.safetensors").write_bytes(SAFETENSORS)
    assert add(name, "--trust-on-first-use") == OK
    assert listed(project) == [name]
    assert main(["lock", "check"]) == OK


@pytest.mark.parametrize("name", ["hf://org", "hf://org/name@main/../x"])
def test_malformed_hub_names_are_refused(project, name, capsys):
    assert add(name) == WRONG
    assert "hf://owner/repo@revision/file" in capsys.readouterr().err


def test_a_writer_waits_for_another_and_then_says_what_to_do(project, monkeypatch, capsys):
    guard = project / ".models.lock.writing"
    guard.touch()
    with pytest.raises(LockError, match="delete that file"), _record._exclusive(project / "models.lock", 0.05):
        pass
    assert guard.exists()
    guard.unlink()
    assert add("a.onnx") == OK
    assert not guard.exists()


def test_a_lock_file_in_a_folder_that_does_not_exist(project, capsys):
    assert add("a.onnx", "--lock", "nowhere/models.lock") == WRONG
    assert capsys.readouterr().err


def test_writers_at_the_same_time_lose_no_entries(project):
    names = [[f"m{worker}{number}.onnx" for number in range(4)] for worker in range(2)]
    for name in chain(*names):
        (project / name).write_bytes(onnx_bytes())
    command = "sys.exit(max(main(['lock', 'add', name]) for name in sys.argv[1:]))"
    script = f"import sys; from pytest_backdoor.cli import main; {command}"
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]))
    environment = {**os.environ, "PYTHONPATH": path, "CI": ""}
    workers = [
        subprocess.Popen([sys.executable, "-c", script, *mine], cwd=project, env=environment, stdout=subprocess.DEVNULL)
        for mine in names
    ]
    deadline = time.monotonic() + 120
    assert [worker.wait(deadline - time.monotonic()) for worker in workers] == [0, 0]
    assert listed(project) == sorted(chain(*names))


def test_usage_errors_exit_with_2(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["lock"])
    assert caught.value.code == 2


def test_checking_a_folder_looks_for_what_is_not_listed(project, capsys):
    assert add("sub/b.safetensors") == OK
    assert main(["lock", "check", "sub"]) == OK
    (project / "sub" / "weights.bin").write_bytes(onnx_bytes())
    capsys.readouterr()
    assert main(["lock", "check", "sub"]) == DIFFERENT
    output = capsys.readouterr().out
    assert "ok    sub/b.safetensors" in output
    assert "FAIL  sub/weights.bin" in output
    assert "unlocked-file" in output


def test_checking_an_empty_folder_is_not_success(project):
    assert add("a.onnx") == OK
    (project / "empty").mkdir()
    assert main(["lock", "check", "empty"]) == WRONG


@pytest.mark.parametrize(
    ("name", "content", "rule"),
    [
        ("code.pt", b"cposix\nsystem\n(S'true'\ntR.", "names posix.system"),
        ("cut.safetensors", SAFETENSORS[:-2], "shorter than its header"),
        ("twice.onnx", onnx_bytes() + b"\x3a\x00", "cannot be parsed as ONNX"),
    ],
)
def test_a_file_that_no_scan_would_open_is_not_listed(project, capsys, name, content, rule):
    (project / name).write_bytes(content)
    assert add("a.onnx", name) == WRONG
    assert rule in capsys.readouterr().err
    assert not (project / "models.lock").exists()


def test_what_may_be_allowed_is_listed_and_told(project, capsys):
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], raw_data=b"\0\0\xc0\x7f")
    graph = helper.make_graph([], "g", [], [], [tensor])
    (project / "nan.onnx").write_bytes(helper.make_model(graph).SerializeToString())
    assert add("nan.onnx") == OK
    assert listed(project) == ["nan.onnx"]


def test_checking_a_folder_tells_of_a_changed_file_once(project, capsys):
    assert add("sub/b.safetensors") == OK
    (project / "sub" / "b.safetensors").write_bytes(SAFETENSORS.replace(b"{", b"{ ", 1))
    capsys.readouterr()
    assert main(["lock", "check", "sub"]) == DIFFERENT
    assert capsys.readouterr().out.count("FAIL  sub/b.safetensors") == 1
