from __future__ import annotations

import pytest

from pytest_backdoor.checks import planned_checks
from pytest_backdoor.settings import ScanSettings


def selected(result):
    return [line for line in result.outlines if "::" in line]


def test_collecting_opens_nothing(project):
    project.add(kind="unopenable")
    result = project.run("--backdoor-scan", "model.onnx", "--collect-only", "-q", "--backdoor-report=report.json")
    assert result.ret == 0
    assert selected(result) == [f"model.onnx::{name}" for name in planned_checks(ScanSettings())]
    assert selected(result)[:2] == ["model.onnx::provenance", "model.onnx::litmus"]
    assert not (project.path / "report.json").exists()
    result.stdout.no_fnmatch_line("*backdoor scan*")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("-k", "litmus"), ["a.onnx::litmus", "b.onnx::litmus"]),
        (("-k", "a.onnx and not litmus"), ["a.onnx::provenance"]),
        (("--deselect", "a.onnx"), ["b.onnx::provenance", "b.onnx::litmus"]),
    ],
)
def test_options_that_select(project, arguments, expected):
    project.add("a.onnx")
    project.add("b.onnx")
    assert selected(project.scan("a.onnx", "b.onnx", "--collect-only", "-q", *arguments)) == expected


def test_node_id(project):
    project.add()
    result = project.scan("model.onnx::litmus", "--backdoor-report=report.json")
    result.assert_outcomes(passed=1)
    assert project.outcomes() == {"model.onnx": {"litmus": "passed"}}
    finding = project.findings()["model.onnx::litmus"]
    assert finding["evidence"]["reference"]["significance"] == 0.01, "the planned checks share the rate"


def test_node_id_of_no_check(project):
    project.add()
    assert project.scan("model.onnx::nonsense").ret == pytest.ExitCode.USAGE_ERROR


def test_everything_deselected(project):
    project.add()
    result = project.scan("model.onnx", "-k", "nothing_is_called_so", "--backdoor-report=report.json")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    assert project.read_report()["models"] == []


def test_models_deselected_beside_tests_that_ran(project):
    project.add()
    project.write("test_own.py", "def test_own(): pass")
    result = project.scan("model.onnx", "test_own.py", "-k", "own")
    result.assert_outcomes(passed=1, deselected=2)
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_last_failed(project):
    project.add("a.onnx")
    project.add("b.onnx", kind="bad")
    arguments = ("--backdoor-scan", "--backdoor-checks=provenance,litmus", "a.onnx", "b.onnx")
    first = project.pytester.runpytest(*arguments)
    first.assert_outcomes(passed=1, failed=1, skipped=2)
    again = project.pytester.runpytest(*arguments, "--lf", "-v")
    again.assert_outcomes(failed=1, deselected=again.parseoutcomes().get("deselected", 0))
    again.stdout.fnmatch_lines(["b.onnx::litmus FAILED*"])
    assert again.ret == pytest.ExitCode.TESTS_FAILED
    project.add("b.onnx")
    repaired = project.pytester.runpytest(*arguments, "--lf")
    assert repaired.ret == 0
    assert repaired.parseoutcomes()["passed"] == 1


def test_stop_at_the_first_failure(project):
    project.add("a.onnx", kind="bad")
    project.add("b.onnx")
    result = project.scan("a.onnx", "b.onnx", "-x", "--backdoor-report=report.json")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(failed=1, skipped=1)
    assert project.outcomes()["b.onnx"] == {}, "what was not reached is listed"
    assert project.read_report()["models"][1]["verdict"] == "unverified"
    result.stdout.fnmatch_lines(["unverified *b.onnx *no check ran"])


def test_checks_of_one_model_stay_together(project):
    project.write(
        "conftest.py",
        "def pytest_collection_modifyitems(items): items.sort(key=lambda item: item.name)",
    )
    project.add("a.onnx")
    project.add("b.onnx")
    assert selected(project.scan("a.onnx", "b.onnx", "--collect-only", "-q")) == [
        "a.onnx::litmus",
        "a.onnx::provenance",
        "b.onnx::litmus",
        "b.onnx::provenance",
    ]
