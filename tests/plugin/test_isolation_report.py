"""What reports and the terminal say about the processes of a run's scans."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import jsonschema
import pytest

from pytest_backdoor.findings import ModelReport
from pytest_backdoor.report import missing_limits
from pytest_backdoor.scanning._limits import Isolation

SCHEMA = json.loads((Path(__file__).parents[2] / "docs/schema/report-1.json").read_text(encoding="utf-8"))
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has these limits")


@linux
@pytest.mark.parametrize("workers", [(), ("-n2",)], ids=["alone", "distributed"])
def test_the_report_says_what_was_in_force(project, workers):
    if workers:
        pytest.importorskip("xdist")
    project.add("a.onnx")
    project.add("b.onnx", kind="unopenable")
    report = project.report("a.onnx", "b.onnx", "--backdoor-timeout=100", "--backdoor-memory=4096", *workers)
    jsonschema.validate(report, SCHEMA)
    expected = {
        "process": "forked",
        "memory_mb": 4096,
        "cpu_seconds": 100 * len(os.sched_getaffinity(0)),
        "network": "denied by seccomp",
        "working_directory": "private",
        "not_set": [],
    }
    assert [model["isolation"] for model in report["models"]] == [expected, expected]


def test_a_marked_test_reports_it_too(project):
    project.add()
    project.write(
        "test_own.py",
        "import pytest\n\n@pytest.mark.backdoor_scan('model.onnx', checks='litmus')\ndef test_own(): pass\n",
    )
    project.run("--backdoor-report=report.json").assert_outcomes(passed=1)
    (model,) = project.read_report()["models"]
    assert model["isolation"]["process"] == ("forked" if sys.platform == "linux" else "spawned")


@linux
def test_one_process_serves_a_run_and_ends_with_it(project, install_checks):
    install_checks(odd="evidence = {'parent': os.getppid()}")
    project.add("a.onnx")
    project.add("b.onnx")
    arguments = ("--backdoor-checks=odd", "--backdoor-report=report.json")
    project.scan_apart("a.onnx", "b.onnx", *arguments).assert_outcomes(passed=2)
    first, second = (finding["evidence"]["parent"] for finding in project.findings().values())
    assert first == second
    assert not Path(f"/proc/{first}").exists()


def test_a_limit_that_could_not_be_set_is_told_in_one_line():
    full = Isolation(process="forked", memory_mb=8192, network="denied by seccomp", working_directory="private")
    lacking = Isolation(process="spawned", not_set=("memory", "network"))
    models = [
        ModelReport(path="a.onnx", isolation=full.to_json()),
        ModelReport(path="b.onnx", isolation=lacking.to_json()),
        ModelReport(path="c.onnx"),
    ]
    assert missing_limits(models) == ["This system could not limit memory, network for the scan of 1 model(s)."]
    assert missing_limits(models[::2]) == []


@linux
def test_the_terminal_tells_it(project, monkeypatch):
    project.add()
    assert "could not limit" not in project.scan("model.onnx").stdout.str()
    # A child that the filter's module fails in, by way of the interpreter's start-up.
    project.write(
        "site/sitecustomize.py",
        "from pytest_backdoor.scanning import _network\n"
        "_network._deny_by_filter = lambda **options: False\n_network._deny_by_namespace = lambda: False\n",
    )
    monkeypatch.setenv("PYTHONPATH", str(project.path / "site"), prepend=os.pathsep)
    result = project.scan_apart("model.onnx", "--backdoor-checks=litmus")
    result.stdout.fnmatch_lines(["This system could not limit network for the scan of 1 model(s)."])
