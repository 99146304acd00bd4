from __future__ import annotations

import json
from dataclasses import replace

import pytest
from made_up_reports import every_kind_of_model, model, provenance, reversal
from test_formats_agree import sarif_validator

from pytest_backdoor.findings import Outcome, ScanReport
from pytest_backdoor.report import write_report
from pytest_backdoor.report._sarif import message

LOCK = """\
lock-version = "1"

[[artifact]]
path = "models/bad.onnx"
size = 1

[[artifact.external]]
path = "models/bad.onnx_data"

[[artifact]]
path = "hf://owner/repo@0123/model.onnx"
"""
SETTINGS = """\
[tool.pytest-backdoor]
fpr = 0.01

[[tool.pytest-backdoor.models]]
path = 'models/*.onnx'
"""


@pytest.fixture
def project(tmp_path):
    """A repository with a lock file and settings."""
    (tmp_path / ".git").mkdir()
    (tmp_path / "models.lock").write_text(LOCK)
    (tmp_path / "pyproject.toml").write_text(SETTINGS)
    return tmp_path


def sarif(report, root, *, listings=("models.lock", "pyproject.toml")):
    path = root / "scan.sarif"
    write_report(report, path, root=root, listings=[root / name for name in listings])
    log = json.loads(path.read_text(encoding="utf-8"))
    sarif_validator().validate(log)
    return log["runs"][0]


def only(*models):
    return ScanReport(models=models)


def place(run, number=0):
    location = run["results"][number]["locations"][0]["physicalLocation"]
    return location["artifactLocation"]["uri"], location["region"]


def test_every_kind_of_model(project):
    run = sarif(every_kind_of_model(), project)
    assert [(result["ruleId"], result["properties"]["model"]) for result in run["results"]] == [
        ("reversal", "models/bad.onnx"),
        ("provenance/hash-mismatch", "models/changed.onnx"),
        ("provenance/no-hash-listed", "models/changed.onnx"),
    ]
    severities = {rule["id"]: float(rule["properties"]["security-severity"]) for rule in run["tool"]["driver"]["rules"]}
    assert severities["provenance/hash-mismatch"] > 9 > severities["reversal"] >= 7
    assert severities["provenance/no-hash-listed"] < 7
    for rule in run["tool"]["driver"]["rules"]:
        assert {
            "id",
            "shortDescription",
            "fullDescription",
            "help",
            "defaultConfiguration",
            "properties",
        } <= rule.keys()
        assert len(rule["fullDescription"]["text"]) <= 1024
    (invocation,) = run["invocations"]
    assert invocation["executionSuccessful"] is False
    told = {(note["level"], note["descriptor"]["id"]) for note in invocation["toolExecutionNotifications"]}
    assert told >= {
        ("error", "litmus/error"),
        ("warning", "litmus/not_assessed"),
        ("error", "unverified"),
        ("note", "unverified"),
        ("note", "provenance/plain-http"),
    }


def test_the_line_of_the_lock_file(project):
    uri, region = place(sarif(only(model("models/bad.onnx", reversal())), project))
    assert (uri, region["startLine"], region["endLine"]) == ("models.lock", 4, 4)
    assert (region["startColumn"], region["endColumn"]) == (1, len('path = "models/bad.onnx"') + 1)


def test_the_line_of_external_data(project):
    finding = provenance("models/bad.onnx_data")
    assert place(sarif(only(model("models/bad.onnx", finding)), project))[1]["startLine"] == 8


def test_a_model_of_the_hub(project):
    run = sarif(only(model("hf://owner/repo@0123/model.onnx", reversal())), project)
    assert place(run)[1]["startLine"] == 11
    assert "location" not in run["artifacts"][0]


def test_the_glob_of_the_settings(project):
    uri, region = place(sarif(only(model("models/new.onnx", reversal())), project))
    assert (uri, region["startLine"]) == ("pyproject.toml", 5)


def test_a_model_that_nothing_lists(project):
    uri, region = place(sarif(only(model("elsewhere/new.onnx", reversal())), project))
    assert (uri, region["startLine"]) == ("models.lock", 1)


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        ("my models/bad #1.onnx", "my%20models/bad%20%231.onnx"),
        ("/far/away.onnx", "models.lock"),
        ("hf://a/b@c/d.onnx", "models.lock"),
    ],
)
def test_a_project_without_listings(tmp_path, path, uri):
    assert place(sarif(only(model(path, reversal())), tmp_path))[0] == uri


def test_a_project_in_a_folder_of_its_repository(project):
    folder = project / "packages/audit"
    folder.mkdir(parents=True)
    (folder / "models.lock").write_text(LOCK)
    run = sarif(only(model("models/bad.onnx", reversal())), folder)
    assert place(run)[0] == "packages/audit/models.lock"
    assert run["artifacts"][0]["location"]["uri"] == "packages/audit/models/bad.onnx"


@pytest.mark.parametrize("content", [b"\xff\xfe", b"path = {", b"path = [1]\n", b""])
def test_listings_that_cannot_be_read(tmp_path, content):
    (tmp_path / "models.lock").write_bytes(content)
    assert place(sarif(only(model("bad.onnx", reversal())), tmp_path))[1]["startLine"] == 1


def test_fingerprints_do_not_depend_on_the_line_or_the_score(project):
    def fingerprint(*models):
        return sarif(only(*models), project)["results"][-1]["partialFingerprints"]["primaryLocationLineHash"]

    first = fingerprint(model("models/bad.onnx", reversal()))
    (project / "models.lock").write_text(f"# a comment\n{LOCK}")
    other = replace(reversal(), score=99.0, summary="Other words.")
    assert fingerprint(model("models/new.onnx", reversal()), model("models/bad.onnx", other)) == first
    assert fingerprint(model("models/new.onnx", reversal())) != first
    elsewhere = replace(reversal(), evidence={**reversal().evidence, "target_name": "4"})
    assert fingerprint(model("models/bad.onnx", elsewhere)) != first


def test_no_category(project):
    # What uploads the file names the run after the job; a name of our own would keep it from that.
    assert "automationDetails" not in sarif(every_kind_of_model(), project)


def test_text_that_looks_like_a_link_or_a_placeholder():
    assert message("see [this](http://example.org) and {0}")["text"] == r"see \[this\](http://example.org) and {{0}}"


def test_clean_models_make_no_alert(project):
    run = sarif(only(model("models/a.onnx", reversal(Outcome.PASSED))), project)
    assert run["results"] == []
    assert run["tool"]["driver"]["rules"] == []
    assert run["invocations"][0]["executionSuccessful"] is True
    assert run["artifacts"][0]["properties"]["checks"][0]["outcome"] == "passed"
