"""Report files of real runs, in one process, in several, and after one of them died."""

from __future__ import annotations

import base64
import json
import re
from xml.etree import ElementTree

import pytest

SUFFIXES = ("json", "html", "sarif", "md")
REPORTS = [f"--backdoor-report=r.{suffix}" for suffix in SUFFIXES]
DYING = """
import os

def pytest_runtest_call(item):
    if item.nodeid == "b.onnx::litmus":
        os._exit(3)
"""


def outcomes(project):
    """What each of the report files says: {format: {model: {check: outcome}}}."""
    page = (project.path / "r.html").read_text(encoding="utf-8")
    in_page = {}
    for section in page.split("data-model=")[1:]:
        checks = re.findall(r'data-check="([^"]*)" data-outcome="([^"]*)"', section)
        in_page[section.split('"')[1]] = dict(checks)
    (run,) = json.loads((project.path / "r.sarif").read_text(encoding="utf-8"))["runs"]
    in_sarif = {
        entry["properties"]["path"]: {check["check"]: check["outcome"] for check in entry["properties"]["checks"]}
        for entry in run["artifacts"]
    }
    rows = re.findall(r"\| <code>(.*?)</code> \|.*\| (.*) \|", (project.path / "r.md").read_text(encoding="utf-8"))
    in_summary = {
        path: {text.split()[0]: "_".join(text.split()[1:]) for text in cell.split(", ") if cell != "no check ran"}
        for path, cell in rows
    }
    return {"json": project.outcomes("r.json"), "html": in_page, "sarif": in_sarif, "md": in_summary}


def test_all_formats_of_one_run(project):
    for name, kind in {"a": "clean", "b": "bad", "c": "other", "d": "unopenable"}.items():
        project.add(f"{name}.onnx", kind=kind)
    result = project.scan(".", *REPORTS)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    found = outcomes(project)
    assert found["html"] == found["sarif"] == found["md"] == found["json"]
    assert len(found["json"]) == 4
    page = (project.path / "r.html").read_text(encoding="utf-8")
    assert "pytest --backdoor-scan b.onnx" in page
    assert "0 of 999 clean reference models score as high" in page


@pytest.mark.parametrize("dies", [False, True], ids=["all workers live", "a worker dies"])
def test_several_processes(project, dies):
    pytest.importorskip("xdist")
    project.add("a.onnx", kind="bad")
    project.add("b.onnx")
    project.add("c.onnx", kind="bad")
    if dies:
        project.write("conftest.py", DYING)
    project.scan("a.onnx", "b.onnx", "c.onnx", "-n2", "--junitxml=junit.xml", *REPORTS)
    found = outcomes(project)
    assert found["html"] == found["sarif"] == found["md"] == found["json"]
    assert found["json"]["b.onnx"]["litmus"] == ("error" if dies else "passed")
    assert found["json"]["a.onnx"]["litmus"] == found["json"]["c.onnx"]["litmus"] == "failed"
    cases = {
        f"{case.get('classname')}::{case.get('name')}": {
            entry.get("name"): entry.get("value") for entry in case.iter("property")
        }
        for case in ElementTree.parse(project.path / "junit.xml").iter("testcase")
    }
    assert cases["a.onnx::litmus"]["backdoor_outcome"] == "failed"
    assert len(cases["c.onnx::litmus"]["backdoor_sha256"]) == 64


def test_settings_and_command_of_each_model(project):
    project.configure(models="[[tool.pytest-backdoor.models]]\npath = 'b.onnx'\nallow_unverified = true")
    project.add("a.onnx")
    project.add("b.onnx", kind="other")
    project.scan("a.onnx", "b.onnx", "--backdoor-seed=7", *REPORTS)
    first, second = project.read_report("r.json")["models"]
    assert (first["settings"]["seed"], first["settings"]["allow_unverified"]) == (7, False)
    assert second["settings"]["allow_unverified"] is True
    assert second["command"].startswith("pytest --backdoor-scan b.onnx ")
    assert "unverified, allowed" in (project.path / "r.html").read_text(encoding="utf-8")


def test_sarif_points_to_the_lock_file(project):
    from pytest_backdoor.checks.provenance._record import new_artifact, record

    project.add("models/bad.onnx", kind="bad")
    artifact = new_artifact("models/bad.onnx", project.path / "models/bad.onnx")
    record(project.path / "models.lock", [artifact], update=False)
    project.scan("models", *REPORTS)
    (run,) = json.loads((project.path / "r.sarif").read_text(encoding="utf-8"))["runs"]
    where = run["results"][0]["locations"][0]["physicalLocation"]
    assert where["artifactLocation"]["uri"] == "models.lock"
    lines = (project.path / "models.lock").read_text(encoding="utf-8").split("\n")
    assert lines[where["region"]["startLine"] - 1] == 'path = "models/bad.onnx"'


def test_an_unknown_format(project):
    project.add()
    result = project.scan("model.onnx", "--backdoor-report=r.pdf")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*r.pdf has an extension that is not known; use .json or .html or .sarif or .md.*"])


def test_a_hostile_class_name(project):
    name = "<img src=x onerror=alert(1)>\x1b[31m"
    project.configure(common=f"classes = {json.dumps([name, 'b', 'c', 'd'])}")
    project.add(kind="bad")
    result = project.scan("model.onnx", *REPORTS)
    assert "\x1b" not in result.stdout.str()
    assert "<img src=x" not in (project.path / "r.html").read_text(encoding="utf-8")
    assert "<img src=x" not in (project.path / "r.md").read_text(encoding="utf-8")


PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4//8/AAX+Av4N70a4AAAAAElFTkSuQmCC"


@pytest.mark.parametrize("processes", ["0", "2"])
def test_pictures_for_pytest_html(project, install_checks, processes):
    pytest.importorskip("pytest_html")
    pytest.importorskip("xdist")
    install_checks(drawing=f"evidence = dict(target_name='<b>', trigger_png={PNG!r}, clean_png='no picture')")
    project.add()
    arguments = ("--backdoor-checks=drawing", "--html=page.html", "--self-contained-html", f"-n{processes}")
    result = project.scan_apart("model.onnx", *arguments)
    assert result.ret == 0
    page = (project.path / "page.html").read_text(encoding="utf-8")
    assert PNG in page
    assert base64.b64decode(PNG).startswith(b"\x89PNG")
    assert "no picture" not in page
