from __future__ import annotations

import numpy as np
import pytest

FAILED, NOTHING_RAN = pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED
ALLOW = "--backdoor-allow-unverified"


@pytest.fixture
def locked(project):
    """A function that lists models in the lock file."""
    from pytest_backdoor.checks.provenance._record import new_artifact, record

    def lock(*names):
        record(project.path / "models.lock", [new_artifact(name, project.path / name) for name in names], update=False)

    return lock


def test_clean(project):
    project.add()
    result = project.scan("model.onnx")
    assert result.ret == 0
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["clean *model.onnx *provenance not assessed, litmus passed"])


def test_clean_and_listed(project, locked):
    project.add()
    locked("model.onnx")
    result = project.scan("model.onnx")
    result.assert_outcomes(passed=2)
    assert result.ret == 0


def test_clean_behaviour_of_a_changed_file(project, locked):
    project.add(kind="bad")
    locked("model.onnx")
    project.add()
    result = project.scan("model.onnx")
    result.assert_outcomes(passed=1, failed=1)
    assert result.ret == FAILED


def test_unverified(project):
    project.add(kind="other")
    result = project.scan("model.onnx")
    result.assert_outcomes(skipped=2)
    assert result.ret == FAILED
    result.stdout.fnmatch_lines(
        ["The gate fails for unverified models: *Accept them with --backdoor-allow-unverified."]
    )


def test_unverified_is_allowed_if_something_was_checked(project, locked):
    project.add(kind="other")
    locked("model.onnx")
    result = project.scan("model.onnx", ALLOW)
    result.assert_outcomes(passed=1, skipped=1)
    assert result.ret == 0
    result.stdout.no_fnmatch_line("The gate fails*")


def test_a_run_in_which_nothing_was_checked_is_not_green(project):
    project.add(kind="other")
    assert project.scan("model.onnx", ALLOW).ret == NOTHING_RAN


def test_provenance_alone_leaves_a_model_unverified(project, locked):
    project.add()
    locked("model.onnx")
    assert project.scan("model.onnx::provenance").ret == FAILED
    assert project.scan("model.onnx::provenance", ALLOW).ret == 0


@pytest.mark.parametrize("kind", ["bad", "unopenable"])
def test_allowing_unverified_models_allows_nothing_else(project, kind):
    project.add("clean.onnx")
    project.add("other.onnx", kind="other")
    project.add("model.onnx", kind=kind)
    assert project.scan("clean.onnx", "other.onnx", ALLOW).ret == 0
    assert project.scan("clean.onnx", "other.onnx", "model.onnx", ALLOW).ret == FAILED


def test_unverified_models_are_allowed_one_by_one(project):
    project.configure(models="[[tool.pytest-backdoor.models]]\npath = 'a.onnx'\nallow_unverified = true")
    project.add("clean.onnx")
    project.add("a.onnx", kind="other")
    project.add("b.onnx", kind="other")
    assert project.scan("clean.onnx", "a.onnx").ret == 0
    assert project.scan("clean.onnx", "b.onnx").ret == FAILED


def test_models_after_an_error_are_scanned(project):
    project.add("a.onnx", kind="unopenable")
    project.write("b.pt", "text")
    project.add("c.onnx")
    result = project.scan("a.onnx", "b.pt", "c.onnx", "--backdoor-report=report.json")
    assert result.ret == FAILED
    assert {name: found["litmus"] for name, found in project.outcomes().items()} == {
        "a.onnx": "error",
        "b.pt": "error",
        "c.onnx": "passed",
    }


def test_file_that_vanishes_after_collection(project):
    project.add()
    project.write("conftest.py", "import os\ndef pytest_collection_finish(session): os.remove('model.onnx')")
    result = project.scan("model.onnx", "--backdoor-report=report.json")
    assert result.ret == FAILED
    assert project.outcomes() == {"model.onnx": {"provenance": "error", "litmus": "error"}}


def test_reference_that_is_too_small_for_the_rate(project):
    project.configure(pack="small.npz")
    project.add()
    result = project.scan("model.onnx", "-rs")
    assert result.ret == FAILED
    result.stdout.fnmatch_lines(["SKIPPED *50 clean reference models cannot support a false-positive rate of 0.01*"])
    assert project.scan("model.onnx", "--backdoor-fpr=0.02").ret == 0


def test_fpr_moves_the_gate(project):
    project.add(kind="bad")
    assert project.scan("model.onnx", "--backdoor-fpr=0.001").ret == FAILED
    assert project.scan("model.onnx", "--backdoor-fpr=0.0009").ret == FAILED, "too small a rate is not assessed"
    project.add()
    assert project.scan("model.onnx", "--backdoor-fpr=0.9").ret == FAILED


@pytest.mark.parametrize("name", ["nowhere.npz", "damaged.npz"])
def test_pack_that_cannot_be_read(project, name):
    project.write("damaged.npz", "damaged")
    project.configure(models=f"[[tool.pytest-backdoor.models]]\npath = '*.onnx'\npack = '{name}'")
    project.add()
    assert project.scan("model.onnx", "--backdoor-report=report.json").ret == FAILED
    finding = project.findings()["model.onnx::litmus"]
    assert finding["outcome"] == "error"
    assert f"{name} cannot be read" in finding["summary"]


def test_samples_that_contradict_the_preprocessing(project):
    np.savez(project.path / "data.npz", x=np.zeros((20, 8, 8), np.uint8), y=np.arange(20) % 4)
    project.add()
    pytest.importorskip("torch")
    result = project.run("--backdoor-scan", "model.onnx::reversal", "--backdoor-data=data.npz", "-rs")
    assert result.ret == FAILED
    result.stdout.fnmatch_lines(["SKIPPED *classifies only 25% of 20 clean samples*"])
