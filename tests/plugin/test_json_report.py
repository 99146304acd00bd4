from __future__ import annotations

import hashlib
import json
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest

SCHEMA = json.loads((Path(__file__).parents[2] / "docs/schema/report-1.json").read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def test_schema_is_one():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


def test_report_of_every_kind_of_model(project):
    for name, kind in {"a": "clean", "b": "bad", "c": "other", "d": "unopenable"}.items():
        project.add(f"{name}.onnx", kind=kind)
    report = project.report(".")
    VALIDATOR.validate(report)
    assert [model["verdict"] for model in report["models"]] == ["clean", "suspicious", "unverified", "suspicious"]
    clean, *_, unopenable = report["models"]
    assert clean["task"] == {"input_shape": [1, 8, 8], "classes": 4}
    assert clean["format"] == "onnx"
    assert clean["size"] == (project.path / "a.onnx").stat().st_size
    assert len(clean["sha256"]) == 64
    assert (unopenable["task"], unopenable["size"]) == (None, 64)


def test_numbers_of_a_finding(project):
    project.add(kind="bad")
    project.report("model.onnx")
    finding = project.findings()["model.onnx::litmus"]
    assert finding["p_value"] == 1 / 1000
    assert finding["score"] > finding["evidence"]["reference"]["quantiles"]["1"]
    assert finding["behavioural"] is True
    assert finding["remedy"].startswith("Do not deploy this model.")
    assert finding["seed"] is None


@pytest.mark.parametrize("place", [("models", 0), ("models", 0, "findings", 0), ("models", 0, "task"), ("tool",), ()])
def test_schema_is_strict(project, place):
    project.add()
    report = project.report("model.onnx")
    part = report
    for key in place:
        part = part[key]
    name = next(iter(part))
    part["unknown"] = 1
    assert not VALIDATOR.is_valid(report)
    del part["unknown"], part[name]
    assert not VALIDATOR.is_valid(report)


def test_several_reports(project):
    project.add()
    project.scan("model.onnx", "--backdoor-report=a.json", "--backdoor-report=deep/b.json")
    assert project.read_report("a.json") == project.read_report("deep/b.json")


def test_report_of_tests_without_the_flag(project):
    project.add()
    project.write(
        "test_marked.py",
        "import pytest\n@pytest.mark.backdoor_scan('model.onnx', checks='litmus')\ndef test_marked(): pass",
    )
    assert project.run("--backdoor-report=report.json").ret == 0
    VALIDATOR.validate(project.read_report())
    assert project.outcomes() == {"model.onnx": {"litmus": "passed"}}


def test_same_seed_same_report(project):
    project.add("a.onnx")
    project.add("b.onnx", kind="bad")
    for name in ("first", "second"):
        project.scan("a.onnx", "b.onnx", "--backdoor-seed=3", f"--backdoor-report={name}.json")
    first = project.read_report("first.json", timeless=True)
    assert first == project.read_report("second.json", timeless=True)
    assert first["settings"]["seed"] == 3


def test_report_is_there_when_the_first_test_runs(project):
    project.add()
    project.write(
        "test_own.py",
        "from pathlib import Path\ndef test_own(): assert '\"path\": \"model.onnx\"' in Path('r.json').read_text()",
    )
    result = project.scan("test_own.py", "model.onnx", "--backdoor-report=r.json")
    result.assert_outcomes(passed=2, skipped=1)


def test_report_is_there_when_collection_fails(project):
    project.add()
    project.write("test_broken.py", "import nothing_of_that_name")
    result = project.scan("model.onnx", "test_broken.py", "--backdoor-report=report.json")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    VALIDATOR.validate(project.read_report())


INTERRUPTS = {
    "test_own.py": "def test_own(): raise KeyboardInterrupt",
    "conftest.py": "def pytest_runtest_setup(item):\n    if item.nodeid == 'b.onnx::litmus': raise KeyboardInterrupt",
}


@pytest.mark.parametrize("name", INTERRUPTS)
def test_report_after_an_interrupt(project, name):
    project.add("a.onnx", kind="bad")
    project.add("b.onnx")
    project.write("test_own.py", "def test_own(): pass")
    project.write(name, INTERRUPTS[name])
    arguments = ("--backdoor-checks=provenance,litmus", "a.onnx", "test_own.py", "b.onnx")
    result = project.scan_apart(*arguments, "--backdoor-report=report.json")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    VALIDATOR.validate(project.read_report())
    assert project.outcomes()["a.onnx"]["litmus"] == "failed"
    assert "litmus" not in project.outcomes()["b.onnx"]


def test_file_name_that_is_not_utf_8(project):
    name = b"\xff.onnx".decode("utf-8", "surrogateescape")
    try:
        project.add(f"models/{name}")
    except OSError:
        pytest.skip("this file system has no such names")
    project.scan("models", "--backdoor-report=report.json")
    assert list(project.outcomes()) == [f"models/{name}"]


def test_junit(project):
    project.add(kind="bad")
    project.scan("model.onnx", "--junitxml=junit.xml", "-W", "error")
    cases = ElementTree.parse(project.path / "junit.xml").iter("testcase")
    found = {
        (case.get("classname"), case.get("name")): {
            entry.get("name"): entry.get("value") for entry in case.iter("property")
        }
        for case in cases
    }
    assert list(found) == [("model.onnx", "provenance"), ("model.onnx", "litmus")]
    provenance = found["model.onnx", "provenance"]
    assert provenance["backdoor_outcome"] == "not_assessed"
    assert provenance.keys() == {"backdoor_outcome", "backdoor_sha256", "backdoor_summary"}
    assert provenance["backdoor_sha256"] == hashlib.sha256((project.path / "model.onnx").read_bytes()).hexdigest()
    litmus = found["model.onnx", "litmus"]
    assert litmus["backdoor_outcome"] == "failed"
    assert float(litmus["backdoor_p_value"]) == 0.001
    assert float(litmus["backdoor_score"]) > float(litmus["backdoor_threshold"])
