from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from hand_made_detector import CLASSES, TARGET, detector_model, write_photographs

from pytest_backdoor.calibration import ObjectDetectorPack, ReferenceScores
from pytest_backdoor.checks.reversal import BOX_PATCH_COMPONENT

SCHEMA = Path(__file__).parents[2] / "docs" / "schema" / "report-1.json"


def write_models(folder: Path) -> None:
    for name, backdoor in (("clean.onnx", False), ("bad.onnx", True)):
        (folder / name).write_bytes(detector_model(backdoor=backdoor).SerializeToString())
    write_photographs(folder / "photographs", 12)


def write_pack(folder: Path) -> None:
    """Reference scores of a search without class statistics: how far a class stands out, about 0.3 in clean ones."""
    scores = np.linspace(0, 1, 199)
    references = {BOX_PATCH_COMPONENT: ReferenceScores(scores=scores, description="clean ones")}
    ObjectDetectorPack(name="squares", classes=len(CLASSES), references=references).save(folder / "pack.npz")


def test_from_the_command_line(project):
    write_models(project.path)
    write_pack(project.path)
    result = project.run(
        "--backdoor-scan",
        "clean.onnx",
        "bad.onnx",
        "--backdoor-data=photographs",
        "--backdoor-pack=pack.npz",
        "--backdoor-report=report.json",
    )
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    found = project.outcomes()
    assert {name: found[name]["reversal"] for name in found} == {"clean.onnx": "passed", "bad.onnx": "failed"}
    assert found["bad.onnx"]["litmus"] == found["bad.onnx"]["margin"] == "not_assessed"
    finding = project.findings()["bad.onnx::reversal"]
    assert finding["evidence"]["target_class"] == TARGET
    result.stdout.fnmatch_lines(["*patch at the bottom of every box*", "  target     class 2"])
    report = project.read_report("report.json")
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(report, json.loads(SCHEMA.read_text(encoding="utf-8")))
    assert report["models"][0]["task"] == {"kind": "object-detection", "input_shape": None, "classes": len(CLASSES)}


def test_without_photographs_nothing_is_verified(project):
    write_models(project.path)
    result = project.run("--backdoor-scan", "bad.onnx", "--backdoor-report=report.json")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    finding = project.findings()["bad.onnx::reversal"]
    assert finding["outcome"] == "not_assessed"
    assert "--backdoor-data" in finding["remedy"]
    assert project.read_report("report.json")["models"][0]["verdict"] == "unverified"
