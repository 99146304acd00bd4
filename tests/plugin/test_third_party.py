from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import jsonschema
import pytest

FAILED = pytest.ExitCode.TESTS_FAILED
SCHEMA = json.loads((Path(__file__).parents[2] / "docs/schema/report-1.json").read_text(encoding="utf-8"))


@pytest.fixture
def scan(project, install_checks):
    """A function that scans a.onnx and b.onnx with checks of its own, and gives the findings of ``odd`` on both."""

    def run(*arguments, **bodies):
        install_checks(**bodies)
        project.add("a.onnx")
        project.add("b.onnx")
        names = ",".join(bodies)
        limits = ("--backdoor-timeout=60",)
        result = project.scan_apart(
            "a.onnx", "b.onnx", f"--backdoor-checks={names}", "--backdoor-report=r.json", *limits, *arguments
        )
        jsonschema.validate(project.read_report("r.json"), SCHEMA)
        result.stdout.no_fnmatch_line("*Traceback*")
        result.stdout.no_fnmatch_line("*INTERNALERROR*")
        return result, project.findings("r.json")

    return run


def only_a(body):
    return f"if subject.display == 'a.onnx': {body}"


def test_installed_check_is_one_more_item(project, install_checks):
    install_checks(odd="pass")
    project.add()
    result = project.scan_apart("model.onnx", "--collect-only", "-q")
    assert "model.onnx::odd" in result.outlines
    assert result.outlines.index("model.onnx::litmus") < result.outlines.index("model.onnx::odd")


def test_verdict_of_an_installed_check(scan):
    result, findings = scan(odd="evidence = {'seen': subject.sha256}")
    assert result.ret == 0
    assert len(findings["a.onnx::odd"]["evidence"]["seen"]) == 64


def test_name_of_the_entry_point_counts(scan):
    result, findings = scan(odd="self.name = 'another'")
    assert result.ret == 0
    assert list(findings) == ["a.onnx::odd", "b.onnx::odd"]


@pytest.mark.parametrize(
    ("body", "outcome", "says"),
    [
        ("raise RuntimeError('of its own')", "error", "The check odd failed on a.onnx: RuntimeError: of its own"),
        ("raise NotAssessableError('Not for this one.')", "not_assessed", "Not for this one."),
        ("return None", "error", "The check odd failed on a.onnx: AttributeError"),
        ("evidence = {'path': subject.path}", "error", "The check odd failed on a.onnx: TypeError"),
        ("evidence = {'score': float('nan')}", "error", "The check odd failed on a.onnx: ValueError"),
        ("sys.exit(3)", "error", "The process that scanned a.onnx ended with status 3"),
        ("os.kill(os.getpid(), 9)", "error", "The process that scanned a.onnx was killed by signal 9"),
        ("print('noise'); os.write(1, b'more noise')", "passed", "It is fine."),
        ("evidence = {'read': sys.stdin.read()}; sys.stdin.close()", "passed", "It is fine."),
    ],
)
def test_what_a_check_may_do(scan, body, outcome, says):
    if "os.kill" in body and sys.platform == "win32":
        pytest.skip("there are no signals")
    result, findings = scan(odd=only_a(body))
    finding = findings["a.onnx::odd"]
    assert (finding["outcome"], says in finding["summary"]) == (outcome, True), finding["summary"]
    assert findings["b.onnx::odd"]["outcome"] == "passed"
    assert result.ret == (0 if outcome == "passed" else FAILED)


def test_check_that_cannot_be_loaded(scan, project):
    site = project.path / "site"

    result, _ = scan(odd="pass")
    assert result.ret == 0
    (site / "odd_checks.py").write_text("raise RuntimeError('half installed')")
    result = project.scan_apart("a.onnx", "--backdoor-checks=odd,provenance", "--backdoor-report=r.json")
    assert result.ret == FAILED
    assert project.outcomes("r.json") == {"a.onnx": {"provenance": "not_assessed", "odd": "error"}}
    assert (
        "odd (odd_checks:odd) cannot be loaded: half installed" in project.findings("r.json")["a.onnx::odd"]["summary"]
    )


def test_time_limit(scan):
    result, findings = scan("--backdoor-timeout=1", quick="pass", slow=only_a("time.sleep(60)"), unreached="pass")
    assert result.ret == FAILED
    assert [finding["outcome"] for finding in findings.values()] == ["passed", "error", "error", *["passed"] * 3]
    for name in ("slow", "unreached"):
        summary = findings[f"a.onnx::{name}"]["summary"]
        assert summary.startswith("Scanning a.onnx took longer than 1 s, so it was stopped; raise --backdoor-timeout")


def test_time_limit_with_a_process_left_behind(scan):
    left_behind = "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(8)'], close_fds=False)"
    fork = f"os.fork() or time.sleep(8); {left_behind}; time.sleep(60)" if hasattr(os, "fork") else left_behind
    result, findings = scan("--backdoor-timeout=2", odd=only_a(fork))
    assert result.ret == FAILED
    assert [finding["outcome"] for finding in findings.values()] == ["error", "passed"]


def test_no_time_limit(scan):
    result, _ = scan("--backdoor-timeout=0", odd="pass")
    assert result.ret == 0


def test_memory_limit(scan):
    pytest.importorskip("resource")
    if sys.platform != "linux":
        pytest.skip("the limit has no effect here")
    result, findings = scan("--backdoor-memory=1024", odd=only_a("bytearray(3 * 2**30)"))
    assert result.ret == FAILED
    assert findings["a.onnx::odd"]["outcome"] == "error"
    assert "needs more than 1024 MB to scan" in findings["a.onnx::odd"]["summary"]
    assert "--backdoor-memory" in findings["a.onnx::odd"]["summary"]
    assert findings["b.onnx::odd"]["outcome"] == "passed"


def test_installed_checks_share_the_false_positive_rate(scan):
    _, findings = scan(first="evidence = {'rate': context.significance}", second="pass", third="pass", fourth="pass")
    assert findings["a.onnx::first"]["evidence"] == {"rate": 0.01 / 4}
