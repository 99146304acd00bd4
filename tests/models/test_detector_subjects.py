from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hand_made_detector import detector_model, make_photographs, write_photographs
from onnx import TensorProto, helper

from pytest_backdoor.errors import ModelError, NotAssessableError, NotDifferentiableError, SettingsError
from pytest_backdoor.models import Subject, load_photographs
from pytest_backdoor.models._onnx_detector import OnnxDetector
from pytest_backdoor.settings import make_settings

torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")


def make_subject(folder: Path, model: onnx.ModelProto, **settings: object) -> Subject:
    path = folder / "detector.onnx"
    path.write_bytes(model.SerializeToString())
    return Subject("detector.onnx", make_settings(settings, where="test"), path=path, root=folder)


def open_detector(folder: Path, model: onnx.ModelProto, **settings: object) -> OnnxDetector:
    detector = make_subject(folder, model, **settings).detector
    assert detector is not None
    return detector


def photograph(number: int = 0) -> np.ndarray:
    image = make_photographs(number + 1)[number].transpose(2, 0, 1)
    return np.ascontiguousarray(image, np.float32) / np.float32(255)


@pytest.mark.parametrize("order", [("boxes", "labels", "scores"), ("scores", "boxes", "labels")])
@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("batched", [True, False])
def test_regions_are_what_detections_were_made_of(tmp_path, order, named, batched):
    detector = open_detector(tmp_path, detector_model(order=order, named=named, batched=batched))
    assert (detector.classes, detector.channels, detector.size) == (4, 3, None)
    found = detector.regions(photograph())
    assert sorted(found.labels.tolist()) == [1, 1, 2, 3]
    assert np.allclose(found.boxes, found.regions)
    likelihood = np.exp(found.logits) / np.exp(found.logits).sum(1, keepdims=True)
    assert np.allclose(likelihood[np.arange(4), found.labels], found.scores, atol=1e-6)
    assert np.array_equal(detector.detect(photograph()).boxes, found.boxes)


def test_program_agrees_and_has_gradients(tmp_path):
    image = photograph()
    detector = open_detector(tmp_path, detector_model())
    found = detector.regions(image)
    program = detector.differentiable("cpu", image)
    shown = torch.from_numpy(image).requires_grad_()
    logits = program(shown, torch.from_numpy(found.regions))
    assert np.allclose(logits.detach().numpy(), found.logits, atol=1e-5)
    (gradient,) = torch.autograd.grad(logits[0, found.labels[0]], shown)
    left, top, right, bottom = found.boxes[0].astype(int)
    inside = gradient[:, top:bottom, left:right].abs().sum()
    assert inside > 0
    assert torch.allclose(gradient.abs().sum(), inside)


def test_regions_stay_where_they_are_told_to_be(tmp_path):
    """A region that is moved onto another object is classified as that one."""
    image = photograph()
    detector = open_detector(tmp_path, detector_model())
    found = detector.regions(image)
    logits = detector.differentiable("cpu", image)(
        torch.from_numpy(image), torch.from_numpy(found.regions[::-1].copy())
    )
    assert logits.argmax(1).tolist() == found.labels[::-1].tolist()


def test_preprocessing_of_the_settings(tmp_path):
    detector = open_detector(tmp_path, detector_model(), input_range=[0, 255], std=[255], channel_order="BGR")
    assert sorted(detector.detect(photograph()).labels.tolist()) == [1, 2, 3, 3]
    assert detector.describe()["preprocessing"]["origin"] == "declared"


def test_classifier_checks_say_what_to_do(tmp_path):
    subject = make_subject(tmp_path, detector_model())
    with pytest.raises(NotAssessableError, match="object detector") as raised:
        _ = subject.classifier
    assert "--backdoor-data" in raised.value.remedy
    assert subject.detector is not None
    assert subject.describe()["task"] is None
    assert subject.detector.classes == 4
    assert subject.describe()["task"] == {"kind": "object-detection", "input_shape": None, "classes": 4}


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"alignments": 2}, "2 RoiAlign"), ({"alignments": 0}, "no RoiAlign"), ({"softmax": False}, "no Softmax")],
)
def test_other_detectors_are_not_assessed(tmp_path, changes, message):
    detector = open_detector(tmp_path, detector_model(**changes))
    assert len(detector.detect(photograph()).labels)
    with pytest.raises(NotAssessableError, match=message) as raised:
        detector.regions(photograph())
    assert "export" in raised.value.remedy


def test_scores_that_are_no_probabilities_are_not_assessed(tmp_path):
    model = detector_model()
    model.graph.node.insert(-4, helper.make_node("Sqrt", ["highest"], ["root"]))
    kept = next(node for node in model.graph.node if node.output[0] == "scores")
    kept.input[0] = "root"
    with pytest.raises(NotAssessableError, match="not the probabilities"):
        open_detector(tmp_path, model).regions(photograph(1) * 0.5)


def test_untranslatable_features_are_not_differentiable(tmp_path):
    model = detector_model()
    pooling = next(node for node in model.graph.node if node.op_type == "RoiAlign")
    pooling.attribute.append(helper.make_attribute("mode", "max"))
    detector = open_detector(tmp_path, model)
    with pytest.raises(NotDifferentiableError, match="'max'"):
        detector.differentiable("cpu", photograph())


def test_classifiers_are_no_detectors(tmp_path):
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 4, 4])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 48])
    graph = helper.make_graph([helper.make_node("Flatten", ["image"], ["scores"])], "flat", [image], [scores])
    subject = make_subject(
        tmp_path, helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    )
    assert subject.detector is None
    assert subject.classifier.classes == 48


def test_two_outputs_without_labels_are_refused_as_before(tmp_path):
    model = detector_model()
    del model.graph.output[1]
    with pytest.raises(ModelError):
        _ = make_subject(tmp_path, model).detector


def test_photographs_of_a_folder(tmp_path):
    folder = write_photographs(tmp_path / "photographs", 6)
    (folder / "a" / "notes.txt").write_text("no picture")
    shown = {"root": tmp_path, "channels": 3, "size": None}
    first = list(load_photographs("photographs", seed=1, **shown))
    assert len(first) == 6
    assert {image.shape for image in first} == {(3, 96, 96)}
    again = list(load_photographs("photographs", seed=1, **shown))
    assert all(np.array_equal(*pair) for pair in zip(first, again, strict=True))
    resized = next(load_photographs("photographs", root=tmp_path, channels=3, size=(40, 50), seed=0))
    assert resized.shape == (3, 40, 50)


def test_large_photographs_are_made_smaller(tmp_path):
    from PIL import Image

    Image.new("RGB", (2048, 512)).save(tmp_path / "wide.png")
    (image,) = load_photographs(".", root=tmp_path, channels=3, size=None, seed=0)
    assert image.shape == (3, 256, 1024)


def test_photographs_of_an_npz(tmp_path):
    np.savez(tmp_path / "photographs.npz", x=make_photographs(4))
    images = list(load_photographs("photographs.npz", root=tmp_path, channels=3, size=None, seed=0))
    assert {image.shape for image in images} == {(3, 96, 96)}
    assert max(image.max() for image in images) <= 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (np.zeros((2, 8, 8), np.uint8), "holds images of shape"),
        (np.full((2, 8, 8, 3), 2.0), r"outside of \[0, 1\]"),
        (None, "holds no pictures"),
        ("missing", "neither a folder"),
    ],
)
def test_photographs_that_are_none(tmp_path, content, message):
    source = "missing" if isinstance(content, str) else "."
    if isinstance(content, np.ndarray):
        source = "x.npz"
        np.savez(tmp_path / source, x=content)
    with pytest.raises(SettingsError, match=message):
        list(load_photographs(source, root=tmp_path, channels=3, size=None, seed=0))
