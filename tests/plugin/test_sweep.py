"""Models below a scanned folder that nobody listed fail the run once there is a lock file."""

from __future__ import annotations

import pickle
import shutil

import pytest

from pytest_backdoor.cli import main

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


def test_virtual_environments_are_left_out(locked):
    locked.write("models/venv/pyvenv.cfg", "home = /usr")
    locked.add("models/venv/lib/other.onnx")
    assert sweep_only(locked, "models").ret == 0


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
