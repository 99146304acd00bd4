from __future__ import annotations

import pytest

pytest.importorskip("torch")


def evidence(project, *arguments):
    project.report("model.onnx", "--backdoor-checks=reversal", *arguments)
    return project.findings()["model.onnx::reversal"]["evidence"]


def test_families_are_typed_or_configured(project):
    project.add(kind="bad")
    assert evidence(project, "--backdoor-families=patch")["families"] == ["patch"]
    project.configure(models="[[tool.pytest-backdoor.models]]\npath = '*.onnx'\nfamilies = ['patch', 'warp']")
    found = evidence(project)
    # The pack of the tests has no reference scores for warps.
    assert found["families"] == ["patch"]
    assert "warp" in found["families_left_out"]


def test_families_without_reference_scores_are_not_assessed(project):
    project.add()
    project.report("model.onnx", "--backdoor-checks=reversal", "--backdoor-families=warp,wave")
    finding = project.findings()["model.onnx::reversal"]
    assert finding["outcome"] == "not_assessed"
    assert "no reference scores of trigger reversal for these trigger families" in finding["summary"]


def test_a_family_that_does_not_exist_is_a_usage_error(project):
    project.add()
    result = project.run("--backdoor-scan", "model.onnx", "--backdoor-families=patch,vapour")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*there is no trigger family 'vapour'; choose among patch, source-patch, pixels*"])
