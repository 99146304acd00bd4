"""How images were prepared for a model, as its report and the terminal say it."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from conftest import CLASSES, SIZE, clean_weights
from onnx import TensorProto, helper, numpy_helper

from pytest_backdoor.findings import ModelReport
from pytest_backdoor.report import summary_table
from pytest_backdoor.scanning._engine import Engine
from pytest_backdoor.settings import make_settings

SCHEMA = json.loads((Path(__file__).parents[2] / "docs/schema/report-1.json").read_text(encoding="utf-8"))
DATA = "--backdoor-data=data.npz"


def quadrant_images(count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """uint8 images with one bright quadrant, the class's."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, count)
    bright = (clean_weights()[labels] * 0.5 + 0.3) + rng.uniform(-0.1, 0.1, (count, SIZE, SIZE))
    return np.rint(bright * 255).astype(np.uint8), labels


def pixel_model() -> bytes:
    """The clean classifier for pixels from 0 to 255: images in [0, 1] are all black to it."""
    constants = [("scale", 1 / 250), ("threshold", 0.05)]
    stored = [numpy_helper.from_array(np.float32([value]), name) for name, value in constants]
    stored.append(numpy_helper.from_array(clean_weights().reshape(CLASSES, -1), "w"))
    nodes = [
        helper.make_node("Mul", ["image", "scale"], ["scaled"]),
        helper.make_node("Sub", ["scaled", "threshold"], ["less"]),
        helper.make_node("Relu", ["less"], ["bright"]),
        helper.make_node("Flatten", ["bright"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w"], ["scores"], transB=1),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 1, SIZE, SIZE])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", CLASSES])
    graph = helper.make_graph(nodes, "pixels", [image], [scores], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


@pytest.fixture
def pixels(project):
    """A repository with a model that takes pixels from 0 to 255, and labelled samples."""
    (project.path / "pixels.onnx").write_bytes(pixel_model())
    images, labels = quadrant_images()
    np.savez(project.path / "data.npz", x=images, y=labels)
    np.savez(project.path / "unlabelled.npz", x=images)
    return project


def preprocessing(project, *arguments):
    project.scan("pixels.onnx", "--backdoor-report=report.json", *arguments)
    report = project.read_report()
    jsonschema.Draft202012Validator(SCHEMA).validate(report)
    return report["models"][0]["preprocessing"]


def test_the_range_is_found_and_told(pixels):
    result = pixels.scan("pixels.onnx", DATA, "--backdoor-report=report.json")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "clean  *pixels.onnx *",
            "  *preprocessing: input_range = [[]0, 255[]], inferred from 60 clean samples, of which 100%*",
            "  *classified correctly.*",
        ]
    )
    found = preprocessing(pixels, DATA)
    assert found == {
        "origin": "inferred",
        "layout": "NCHW",
        "channel_order": "RGB",
        "input_range": [0, 255],
        "mean": [0],
        "std": [1],
        "samples": 60,
        "accuracy": 1,
        "equally_good": [],
        "note": "",
    }


def test_the_same_report_again(pixels):
    assert preprocessing(pixels, DATA) == preprocessing(pixels, DATA)


def test_without_samples_the_default_is_assumed_and_nothing_judged(pixels):
    assert preprocessing(pixels)["origin"] == "assumed"
    assert pixels.outcomes()["pixels.onnx"]["litmus"] == "not_assessed"


def test_what_is_assumed_in_spite_of_samples_is_told(pixels):
    found = preprocessing(pixels, "--backdoor-data=unlabelled.npz")
    assert (found["origin"], found["note"]) == ("assumed", "The clean samples have no labels to find it by.")
    result = pixels.scan("pixels.onnx", "--backdoor-data=unlabelled.npz")
    result.stdout.fnmatch_lines(
        ["  *preprocessing: input_range = [[]0, 1[]], assumed. The clean samples have no labels*"]
    )


def test_a_wrong_declaration_is_refused_by_every_check_that_looks_at_behaviour(pixels):
    pixels.configure(models="[[tool.pytest-backdoor.models]]\npath = 'pixels.onnx'\ninput_range = [0, 1]")
    assert preprocessing(pixels, DATA) is None
    finding = pixels.findings()["pixels.onnx::litmus"]
    assert finding["outcome"] == "not_assessed"
    assert "under the declared preprocessing, which is the wrong one" in finding["summary"]
    assert finding["remedy"].startswith("With input_range = [0, 255] it classifies 100% of them correctly")
    result = pixels.scan("pixels.onnx", DATA)
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_a_right_declaration_is_not_told(pixels):
    pixels.configure(models="[[tool.pytest-backdoor.models]]\npath = 'pixels.onnx'\ninput_range = [0, 255]")
    result = pixels.scan("pixels.onnx", DATA)
    assert result.ret == 0
    result.stdout.no_fnmatch_line("*preprocessing:*")
    found = preprocessing(pixels, DATA)
    assert (found["origin"], found["samples"], found["accuracy"]) == ("declared", 60, 1)


def test_a_model_that_no_check_opened_has_none(pixels):
    assert preprocessing(pixels, DATA, "--backdoor-checks=provenance") is None


SEES = """
        import numpy as np
        probe = np.linspace(0, 1, 64, dtype=np.float32).reshape(1, 1, 8, 8)
        evidence["logits"] = subject.classifier.logits(probe)[0].tolist()
        samples = context.samples_for(subject)
        evidence["accuracy"] = float((subject.classifier.logits(samples.images).argmax(1) == samples.labels).mean())
"""


@pytest.mark.parametrize("names", ["first", "second", "first,second", "litmus,second"])
def test_every_check_sees_the_same_preprocessing(pixels, install_checks, names):
    install_checks(first=SEES.strip(), second=SEES.strip())
    result = pixels.scan_apart("pixels.onnx", DATA, f"--backdoor-checks={names}", "--backdoor-report=report.json")
    assert result.ret == 0
    report = pixels.read_report()["models"][0]
    assert report["preprocessing"]["input_range"] == [0, 255]
    seen = [finding["evidence"] for finding in report["findings"] if "logits" in finding["evidence"]]
    assert seen
    x = np.linspace(0, 1, 64).reshape(8, 8) * 255 / 250 - 0.05
    scores = (np.maximum(x, 0) * clean_weights()).sum(axis=(1, 2))
    for evidence in seen:
        np.testing.assert_allclose(evidence["logits"], scores - scores.mean(), atol=1e-4)
        assert evidence["accuracy"] == 1


BASE = {"channel_order": "RGB", "layout": "NCHW", "mean": [0.0], "std": [1.0], "input_range": [0.0, 1.0], "note": ""}
INFERRED = {**BASE, "origin": "inferred", "samples": 200, "accuracy": 0.971, "equally_good": []}


@pytest.mark.parametrize(
    ("used", "said"),
    [
        (None, ""),
        ({**BASE, "origin": "assumed"}, ""),
        ({**BASE, "origin": "declared"}, ""),
        ({**BASE, "origin": "graph"}, ""),
        (INFERRED, "input_range = [0, 1], inferred from 200 clean samples, of which 97% are classified correctly."),
        (
            {**INFERRED, "equally_good": ["0 to 255", "-1 to 1"]},
            "correctly. As good: 0 to 255, -1 to 1. Declare what the model was trained with.",
        ),
        ({**INFERRED, "mean": [0.5], "std": [0.25]}, "input_range = [0, 1], mean = [0.5], std = [0.25], inferred"),
        ({**INFERRED, "channel_order": "BGR"}, "channel_order = BGR, inferred"),
        (
            {**BASE, "origin": "graph", "note": "It divides."},
            "input_range = [0, 1], found in the graph. It divides. Declare it to be sure.",
        ),
        ({**BASE, "origin": "assumed", "note": "No labels."}, "input_range = [0, 1], assumed. No labels. Declare it"),
    ],
)
def test_the_line_of_the_summary(used, said):
    text = " ".join(" ".join(summary_table([ModelReport(path="a.onnx", preprocessing=used)])).split())
    assert said in text
    assert ("preprocessing:" in text) == bool(said)


@pytest.mark.parametrize("order", [("litmus", "samples"), ("samples", "litmus")])
def test_the_order_of_the_checks_does_not_matter(pixels, order):
    from pytest_backdoor.models import Subject

    settings = make_settings(
        {"data": "data.npz", "checks": ["litmus"], "pack": str(pixels._made / "pack.npz")}, where="t"
    )
    subject = Subject("m", settings, path=pixels.path / "pixels.onnx", root=pixels.path)
    engine = Engine(subject, settings, pixels.path)
    for what in order:
        if what == "litmus":
            score = engine.run("litmus").score
        else:
            engine._context.samples_for(subject)
    assert subject.describe()["preprocessing"]["input_range"] == [0, 255]
    assert score == pytest.approx(float(scan_score(pixels)), abs=1e-6)


def scan_score(pixels):
    pixels.scan("pixels.onnx", DATA, "--backdoor-report=report.json")
    return pixels.findings()["pixels.onnx::litmus"]["score"]
