from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")


def test_every_check(project):
    project.add("clean.onnx")
    project.add("bad.onnx", kind="bad")
    result = project.run("--backdoor-scan", "clean.onnx", "bad.onnx", "--backdoor-report=report.json")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    found = project.outcomes()
    assert (found["clean.onnx"]["reversal"], found["bad.onnx"]["reversal"]) == ("passed", "failed")
    evidence = project.findings()["bad.onnx::reversal"]["evidence"]
    assert evidence["target_class"] == 2
    assert evidence["images"] == "prototypes"
    result.stdout.fnmatch_lines(["A trigger of * of 64 pixels turns *", "  target     class 2"])


def test_seed_and_samples(project):
    pixels = np.zeros((40, 8, 8), np.uint8)
    labels = np.arange(40) % 4
    for image, label in zip(pixels, labels, strict=True):
        row, column = divmod(int(label), 2)
        image[4 * row : 4 * row + 4, 4 * column : 4 * column + 3] = 200
    np.savez(project.path / "data.npz", x=pixels, y=labels)
    project.configure(models="[[tool.pytest-backdoor.models]]\npath = '*.onnx'\nclasses = ['a', 'b', 'c', 'd']")
    project.add(kind="bad")
    for name in ("first", "second"):
        project.run(
            "--backdoor-scan",
            "model.onnx",
            "--backdoor-checks=reversal",
            "--backdoor-data=data.npz",
            "--backdoor-seed=11",
            f"--backdoor-report={name}.json",
        )
    first = project.read_report("first.json", timeless=True)
    assert first == project.read_report("second.json", timeless=True)
    finding = first["models"][0]["findings"][0]
    assert (finding["outcome"], finding["seed"]) == ("failed", 11)
    assert finding["evidence"]["images"] == "samples"
    assert finding["evidence"]["target_name"] == "2 (c)"
