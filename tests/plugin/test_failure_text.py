from __future__ import annotations

import shlex

import pytest

INNER_NAMES = (
    "*Traceback*",
    "*_collect.py*",
    "*_session.py*",
    "*_marker.py*",
    "*pytest_backdoor*",
    "*CheckFailedError*",
)


AGAIN = "pytest --backdoor-scan model.onnx::litmus --backdoor-checks provenance,litmus --backdoor-seed 7"


@pytest.fixture(params=["", "true"], ids=["local", "CI"])
def anywhere(request, monkeypatch):
    """pytest shortens less where the variable CI is set."""
    monkeypatch.setenv("CI", request.param)


def test_failed_check(project, anywhere):
    project.add(kind="bad")
    result = project.scan("model.onnx", "-rA", "--backdoor-seed=7")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "*_ litmus of model.onnx _*",
            "Its answers to 3 litmus patterns *a backdoored network. 0 of 999 clean*",
            "  model      model.onnx",
            "  check      litmus, * s",
            "  score      *; 999 clean models score -* to 0.00, half of them below -*",
            "  how sure   p = 0.001: *",
            "             high; the gate fails at 0.01 or less",
            "  what next  Do not deploy this model.*",
            f"  again      {AGAIN}",
            "*= backdoor scan =*",
            "suspicious  model.onnx  provenance not assessed, litmus FAILED",
            "FAILED model.onnx::litmus - Its answers to 3 litmus patterns *",
        ],
    )
    for name in INNER_NAMES:
        result.stdout.no_fnmatch_line(name)


def test_the_repeating_command_repeats(project):
    project.add("my models/bad one.onnx", kind="bad")
    project.scan("my models", "--backdoor-report=first.json", "--backdoor-fpr=0.3")
    result = project.scan("my models", "--backdoor-fpr=0.3")
    line = next(line for line in result.outlines if line.startswith("  again"))
    program, *arguments = shlex.split(line.removeprefix("  again").strip())
    assert program == "pytest"
    project.run(*arguments, "--backdoor-report=second.json")
    node_id = "my models/bad one.onnx::litmus"
    first, second = project.findings("first.json")[node_id], project.findings("second.json")
    assert list(second) == [node_id]
    assert second[node_id] | {"seconds": 0} == first | {"seconds": 0}


def test_file_that_is_no_model(project, anywhere):
    project.write("model.onnx", "this is text")
    result = project.scan("model.onnx", "-rA", "-vv")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        [
            "model.onnx::litmus FAILED*",
            "model.onnx is a text file, not a model*",
            "suspicious *model.onnx *litmus ERROR",
        ]
    )
    for name in INNER_NAMES:
        result.stdout.no_fnmatch_line(name)


def test_not_assessed_is_a_skip_with_the_reason(project):
    project.add(kind="other")
    result = project.scan("model.onnx", "-rs", "-v")
    result.assert_outcomes(skipped=2)
    result.stdout.fnmatch_lines(
        [
            "model.onnx::litmus SKIPPED (model.onnx answers*",
            "unverified  model.onnx  provenance not assessed, litmus not assessed",
            "            provenance: There is no lock file to compare model.onnx with*",
            "            litmus: model.onnx answers the 4 prototype images of the detector pack 'quadrants'*",
            "SKIPPED [[]1[]] model.onnx:1: There is no lock file*",
            "SKIPPED [[]1[]] model.onnx:1: model.onnx answers *",
        ]
    )
    for name in INNER_NAMES:
        result.stdout.no_fnmatch_line(name)


def test_long_paths_stay_whole(project):
    name = "-".join(["a-long-name"] * 10) + ".onnx"
    project.add(name, kind="bad")
    result = project.scan(name)
    result.stdout.fnmatch_lines([f"  model *{name}", f"              {name}"])


def test_the_worst_comes_first_in_the_summary(project):
    for name, kind in {"a": "clean", "b": "other", "c": "unopenable", "d": "bad"}.items():
        project.add(f"{name}.onnx", kind=kind)
    result = project.scan(".")
    result.stdout.fnmatch_lines(
        ["suspicious *c.onnx *", "suspicious  d.onnx *", "unverified *b.onnx *", "clean *a.onnx *"]
    )


def test_where_the_reports_are(project):
    project.add()
    result = project.scan("model.onnx", "--backdoor-report=out/report.json")
    result.stdout.fnmatch_lines([f"report: {project.path / 'out' / 'report.json'}"])
