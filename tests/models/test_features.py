from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_builders import CLASSES, SHAPE, expected_logits, linear_model, save, subject, with_external_data

from pytest_backdoor.errors import NotAssessableError

IMAGES = np.random.default_rng(1).random((130, *SHAPE), dtype=np.float32)
RNG = np.random.default_rng(2)
HIDDEN = RNG.normal(size=(90, 7)).astype(np.float32)
LAST = RNG.normal(size=(7, CLASSES)).astype(np.float32)


def two_layers(*, nodes=None, batch="n", more=()):
    """Flatten, MatMul, Relu, Gemm; ``nodes`` in place of the last one."""
    start = [
        helper.make_node("Flatten", ["x0"], ["flat"]),
        helper.make_node("MatMul", ["flat", "hidden"], ["before"]),
        helper.make_node("Relu", ["before"], ["after"]),
    ]
    end = nodes or [helper.make_node("Gemm", ["after", "last"], ["y"])]
    constants = [numpy_helper.from_array(HIDDEN, "hidden"), numpy_helper.from_array(LAST, "last"), *more]
    graph = helper.make_graph(
        [*start, *end],
        "two-layers",
        [helper.make_tensor_value_info("x0", TensorProto.FLOAT, [batch, *SHAPE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, CLASSES])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=9)


def hidden_of(images):
    return np.maximum(images.reshape(len(images), -1) @ HIDDEN, 0)


def node(kind, *inputs, output="y", **attributes):
    return helper.make_node(kind, list(inputs), [output], **attributes)


@pytest.mark.parametrize(
    ("nodes", "batch"),
    [
        (None, "n"),
        (None, 4),
        ([node("MatMul", "after", "last", output="z"), node("Softmax", "z")], "n"),
        ([node("MatMul", "after", "last", output="z"), node("Add", "z", "bias")], "n"),
        ([node("Identity", "last", output="w"), node("MatMul", "after", "w")], 1),
        ([node("Gemm", "last", "after", output="z", transA=1, transB=1), node("Transpose", "z")], "n"),
    ],
)
def test_features_are_what_the_last_linear_layer_takes(tmp_path, nodes, batch):
    more = [numpy_helper.from_array(np.float32([1, 2, 3, 4]), "bias")]
    path = save(tmp_path / "net.onnx", two_layers(nodes=nodes, batch=batch, more=more))
    classifier = subject(path).classifier
    features, logits = classifier.features(IMAGES)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, hidden_of(IMAGES), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(logits, classifier.logits(IMAGES), atol=1e-5)
    again, _ = classifier.features(IMAGES[:3])
    np.testing.assert_allclose(again, features[:3], atol=1e-5)


def test_images_are_prepared_as_for_the_logits(tmp_path):
    path = save(tmp_path / "net.onnx", two_layers())
    features, _ = subject(path, input_range=[-1, 1]).classifier.features(IMAGES)
    np.testing.assert_allclose(features, hidden_of(2 * IMAGES - 1), rtol=1e-4, atol=1e-4)


def test_a_model_of_one_layer_has_its_pixels_for_features(tmp_path):
    path = save(tmp_path / "net.onnx", linear_model())
    features, logits = subject(path).classifier.features(IMAGES)
    np.testing.assert_allclose(features, IMAGES.reshape(len(IMAGES), -1), atol=1e-6)
    np.testing.assert_allclose(logits, expected_logits(IMAGES), atol=1e-4)


def test_weights_in_another_file(tmp_path):
    model = linear_model()
    path = save(tmp_path / "net.onnx", with_external_data(model, "net.data"))
    data = next(tensor for tensor in linear_model().graph.initializer if tensor.name == "w")
    (tmp_path / "net.data").write_bytes(numpy_helper.to_array(data).tobytes())
    features, _ = subject(path).classifier.features(IMAGES[:5])
    np.testing.assert_allclose(features, IMAGES[:5].reshape(5, -1), atol=1e-6)


CONVOLUTION = [
    helper.make_node("Reshape", ["after", "image"], ["square"]),
    helper.make_node("Conv", ["square", "kernel"], ["scores"]),
    helper.make_node("Flatten", ["scores"], ["y"]),
]
SIDE_BY_SIDE = [
    helper.make_node("Gemm", ["flat", "wide"], ["one"]),
    helper.make_node("Gemm", ["after", "last"], ["other"]),
    helper.make_node("Add", ["one", "other"], ["y"]),
]
NO_CONSTANT = [
    helper.make_node("Gemm", ["after", "last"], ["z"]),
    helper.make_node("MatMul", ["z", "zz"], ["y"]),
]


@pytest.mark.parametrize(
    ("nodes", "says"),
    [
        (CONVOLUTION, "ends with the operator Conv, not with a linear layer"),
        (SIDE_BY_SIDE, "several last layers side by side"),
        (
            [
                *NO_CONSTANT[:1],
                node("Transpose", "z", output="zt"),
                node("MatMul", "zt", "z", output="zz"),
                *NO_CONSTANT[1:],
            ],
            None,
        ),
    ],
)
def test_models_without_a_last_linear_layer(tmp_path, nodes, says):
    more = [
        numpy_helper.from_array(np.ones((CLASSES, 7, 1, 1), np.float32), "kernel"),
        numpy_helper.from_array(np.int64([-1, 7, 1, 1]), "image"),
        numpy_helper.from_array(RNG.normal(size=(90, CLASSES)).astype(np.float32), "wide"),
    ]
    path = save(tmp_path / "net.onnx", two_layers(nodes=nodes, more=more))
    with pytest.raises(NotAssessableError, match=says or "ends with the operator MatMul") as caught:
        subject(path).classifier.features(IMAGES)
    assert "linear layer (torch.nn.Linear" in caught.value.remedy


class TestTorch:
    @pytest.fixture
    def torch(self):
        return pytest.importorskip("torch")

    def classifier(self, network):
        from pytest_backdoor.models import Subject
        from pytest_backdoor.settings import make_settings

        settings = make_settings({"input_shape": list(SHAPE)}, where="test")
        return Subject("net", settings, network=network).classifier

    def network(self, torch, *end):
        hidden = torch.nn.Linear(90, 7, bias=False)
        hidden.weight.data = torch.from_numpy(HIDDEN.T.copy())
        return torch.nn.Sequential(torch.nn.Flatten(), hidden, torch.nn.ReLU(), *end)

    def test_features_are_what_the_last_linear_layer_takes(self, torch):
        network = self.network(torch, torch.nn.Dropout(), torch.nn.Linear(7, CLASSES), torch.nn.Softmax(1)).train()
        classifier = self.classifier(network)
        features, logits = classifier.features(IMAGES)
        np.testing.assert_allclose(features, hidden_of(IMAGES), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(logits, classifier.logits(IMAGES), atol=1e-5)
        assert network.training
        assert not any(module._forward_pre_hooks for module in network.modules())

    def test_networks_that_end_otherwise(self, torch):
        end = (torch.nn.Unflatten(1, (7, 1, 1)), torch.nn.Conv2d(7, CLASSES, 1), torch.nn.Flatten())
        with pytest.raises(NotAssessableError, match="a last linear layer of 7 outputs, not one of 4 for its classes"):
            self.classifier(self.network(torch, *end)).features(IMAGES)
        network = torch.nn.Sequential(torch.nn.Conv2d(3, CLASSES, (6, 5)), torch.nn.Flatten())
        with pytest.raises(NotAssessableError, match="has no linear layer") as caught:
            self.classifier(network).features(IMAGES)
        assert not any(module._forward_pre_hooks for module in network.modules())
        assert "torch.nn.Linear" in caught.value.remedy
