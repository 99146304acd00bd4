from __future__ import annotations

import os
import re
import subprocess
import sys

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto
from onnx_builders import CLASSES, SHAPE, expected_logits, linear_model, save, subject, weights, with_external_data

from pytest_backdoor.errors import ModelError


def newest_opset() -> int:
    """The newest opset that the installed ONNX Runtime says it supports."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    with pytest.raises(Exception, match="till opset") as caught:
        onnxruntime.InferenceSession(
            linear_model(opset=999).SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    return int(re.search(r"till opset (\d+)", str(caught.value))[1])


@pytest.fixture
def images():
    return np.random.default_rng(1).random((5, *SHAPE), dtype=np.float32)


@pytest.fixture
def opened(tmp_path):
    """Save a model and open it as a subject."""

    def open_model(model, **settings):
        return subject(save(tmp_path / "net.onnx", model), **settings).classifier

    return open_model


@pytest.mark.parametrize("opset", [7, 9, 12, 13, 17, 18, 21, "newest"])
def test_all_opsets_are_run(opened, images, opset):
    classifier = opened(linear_model(opset=newest_opset() if opset == "newest" else opset))
    assert (classifier.input_shape, classifier.classes) == (SHAPE, CLASSES)
    found = classifier.logits(images)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected_logits(images), atol=1e-5)


@pytest.mark.parametrize("head", ["logits", "softmax", "log-softmax"])
@pytest.mark.parametrize("batch", ["n", 1, 3])
def test_every_head_and_batch_size_gives_the_same_logits(opened, images, head, batch):
    classifier = opened(linear_model(head=head, batch=batch))
    for count in (1, 3, 5):
        np.testing.assert_allclose(classifier.logits(images[:count]), expected_logits(images[:count]), atol=2e-5)


def test_large_sets_of_images_are_run_in_parts_and_put_together_again(opened):
    images = np.random.default_rng(2).random((150, *SHAPE), dtype=np.float32)
    np.testing.assert_allclose(opened(linear_model()).logits(images), expected_logits(images), atol=1e-5)


@pytest.mark.parametrize("spatial", [False, True])
@pytest.mark.parametrize("output", [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE])
def test_output_types_and_forms(opened, images, output, spatial):
    found = opened(linear_model(output=output, spatial=spatial)).logits(images)
    assert found.shape == (5, CLASSES)
    np.testing.assert_allclose(found, expected_logits(images), atol=5e-3 if output == TensorProto.FLOAT16 else 1e-5)


@pytest.mark.parametrize(
    ("layout", "shape", "declared"),
    [
        ("NCHW", (3, 6, 5), None),
        ("NCHW", (1, 6, 5), None),
        ("NCHW", (3, 6, 3), None),
        ("NCHW", (7, 6, 5), None),
        ("NHWC", (3, 6, 5), None),
        ("NHWC", (1, 6, 5), None),
        ("NHWC", (7, 6, 5), "NHWC"),
        ("NHWC", (3, 4, 5), "NHWC"),
    ],
)
def test_layouts_are_read_from_the_shape_or_declared(opened, layout, shape, declared):
    images = np.random.default_rng(1).random((2, *shape), dtype=np.float32)
    classifier = opened(linear_model(layout=layout, shape=shape), layout=declared)
    assert classifier.input_shape == shape
    np.testing.assert_allclose(classifier.logits(images), expected_logits(images, weights(shape)), atol=1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float16", 5e-3), ("uint8", 0.02)])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_input_types(opened, images, dtype, tolerance, layout):
    found = opened(linear_model(dtype=dtype, layout=layout)).logits(images)
    np.testing.assert_allclose(found, expected_logits(images), atol=tolerance)


def test_uint8_images_are_rounded_to_the_nearest_value(opened):
    images = np.linspace(0, 1, 2 * np.prod(SHAPE), dtype=np.float32).reshape(2, *SHAPE)
    expected = expected_logits(np.rint(images * 255) / 255)
    np.testing.assert_allclose(opened(linear_model(dtype="uint8")).logits(images), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "scaled"),
    [
        ({"input_range": [0, 255]}, lambda x: x * 255),
        ({"input_range": [-1, 1]}, lambda x: x * 2 - 1),
        ({"mean": [0.5], "std": [0.25]}, lambda x: (x - 0.5) / 0.25),
        ({"mean": [0, 0, 0]}, lambda x: x),
        (
            {"input_range": [0, 2], "mean": [0.1, 0.2, 0.3], "std": [1, 2, 4]},
            lambda x: (x * 2 - np.reshape([0.1, 0.2, 0.3], (3, 1, 1))) / np.reshape([1, 2, 4], (3, 1, 1)),
        ),
    ],
)
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_images_are_scaled_and_normalised(opened, images, settings, scaled, layout):
    found = opened(linear_model(layout=layout), **settings).logits(images)
    expected = expected_logits(scaled(images.astype(np.float64)))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stated", [("n", 3, "h", "w"), ("n", "c", "h", "w"), ("n", 3, 6, "w")])
def test_an_open_image_size_is_filled_in_by_the_setting(opened, images, stated):
    classifier = opened(linear_model(stated=stated), input_shape=list(SHAPE))
    np.testing.assert_allclose(classifier.logits(images), expected_logits(images), atol=1e-5)


@pytest.mark.parametrize(
    ("model", "settings", "reason"),
    [
        ({}, {"mean": [0.1, 0.2]}, r"3 channel\(s\), but mean lists 2 numbers; give one number or 3"),
        ({}, {"std": [1, 1, 1, 1]}, "std lists 4 numbers"),
        ({}, {"classes": ["a", "b"]}, "has 4 outputs, but the classes setting names 2; list one name for each"),
        ({}, {"input_shape": [3, 6, 6]}, r"images of shape \[3, 6, 5\], not \[3, 6, 6\]; correct its input_shape"),
        ({"stated": ("n", 3, "h", "w")}, {"input_shape": [3, 9, 9]}, "cannot be run on 4 image.* Check input_shape"),
        ({"dtype": "uint8"}, {"mean": [0.5]}, "uint8 images, which cannot be normalised; remove mean and std"),
        ({"dtype": "uint8"}, {"input_range": [-1, 1]}, r"uint8 images, so input_range must lie within \[0, 255\]"),
        ({"dtype": "uint8"}, {"input_range": [0, 256]}, "correct or remove it"),
    ],
)
def test_settings_that_do_not_fit_the_model_are_named(opened, model, settings, reason):
    with pytest.raises(ModelError, match=rf"^net\.onnx .*{reason}"):
        opened(linear_model(**model), **settings)


@pytest.mark.parametrize("offset", [0, 16])
@pytest.mark.parametrize("location", ["net.bin", "weights/net.bin"])
def test_external_data_below_the_model_s_folder_are_read(tmp_path, monkeypatch, opened, images, location, offset):
    monkeypatch.chdir(tmp_path.parent)
    data = weights().tobytes()
    file = tmp_path / location
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(bytes(offset) + data + b"more")
    model = with_external_data(linear_model(), location, offset=str(offset), length=str(len(data)))
    np.testing.assert_allclose(opened(model).logits(images), expected_logits(images), atol=1e-5)


@pytest.mark.skipif(os.name == "nt", reason="links need privileges there")
def test_external_data_in_a_hugging_face_cache_are_read(tmp_path, images):
    repository = tmp_path / "models--owner--net"
    snapshot, blobs = repository / "snapshots" / "abc", repository / "blobs"
    snapshot.mkdir(parents=True)
    save(blobs / "1", with_external_data(linear_model(), "net.bin"))
    (blobs / "2").write_bytes(weights().tobytes())
    for name, blob in (("net.onnx", "1"), ("net.bin", "2")):
        (snapshot / name).symlink_to(f"../../blobs/{blob}")
    found = subject(snapshot / "net.onnx").classifier.logits(images)
    np.testing.assert_allclose(found, expected_logits(images), atol=1e-5)


def test_the_word_location_alone_changes_nothing(opened, images):
    model = linear_model()
    model.doc_string = "location"
    np.testing.assert_allclose(opened(model).logits(images), expected_logits(images), atol=1e-5)


def test_opening_a_model_does_not_import_torch(tmp_path):
    path = save(tmp_path / "net.onnx", linear_model())
    program = (
        "import sys; from pathlib import Path; from pytest_backdoor.models import Subject\n"
        "from pytest_backdoor.settings import ScanSettings\n"
        f"print(Subject('net.onnx', ScanSettings(), path=Path({str(path)!r})).classifier.classes)\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == [str(CLASSES), "False"]


@pytest.mark.parametrize("head", ["logits", "softmax", "log-softmax"])
@pytest.mark.parametrize("model", [{}, {"layout": "NHWC"}, {"dtype": "uint8"}, {"spatial": True}, {"batch": 3}])
def test_the_differentiable_form_agrees_and_has_gradients(opened, images, head, model):
    torch = pytest.importorskip("torch")
    classifier = opened(linear_model(head=head, **model))
    pixels = torch.from_numpy(images).requires_grad_()
    logits = classifier.differentiable("cpu")(pixels)
    assert logits.shape == (5, CLASSES)
    centred = (logits - logits.mean(1, keepdim=True)).detach().numpy()
    np.testing.assert_allclose(centred, classifier.logits(images), atol=0.02 if "dtype" in model else 1e-4)
    (gradient,) = torch.autograd.grad(logits[:, 2].sum() - logits.mean(), pixels)
    assert gradient.abs().amin(dim=(1, 2, 3)).min() > 0


def test_a_description_tells_the_task_once_the_model_is_open(tmp_path):
    described_subject = subject(save(tmp_path / "net.onnx", linear_model()))
    assert described_subject.describe()["task"] is None
    assert described_subject.classifier.classes == CLASSES
    described = described_subject.describe()
    assert described["format"] == "onnx"
    assert described["task"] == {"input_shape": list(SHAPE), "classes": CLASSES}
    assert described["size"] == (tmp_path / "net.onnx").stat().st_size
    assert re.fullmatch("[0-9a-f]{64}", described["sha256"])
