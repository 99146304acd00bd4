"""Graphs as quantisers, half-precision converters and TensorFlow's exporter write them, opened as classifiers."""

from __future__ import annotations

import warnings

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402  (after the skip)

from pytest_backdoor.models._onnx import OnnxClassifier  # noqa: E402
from pytest_backdoor.models.graph import is_quantised  # noqa: E402
from pytest_backdoor.settings import ScanSettings  # noqa: E402

CLASSES, SIDE = 5, 16


class Branches(nn.Module):
    """A network with what a quantiser treats each in its own way: sums, products, parts joined, poolings."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.LeakyReLU(0.1), nn.AvgPool2d(2))
        self.body = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.SiLU(), nn.Conv2d(8, 8, 1))
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.mixer = nn.Linear(4, 4)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, images):
        images = self.stem(images)
        images = self.pool(torch.cat([images + self.body(images), images], 1))
        images = images * torch.sigmoid(images.mean((2, 3), keepdim=True))
        return self.head(nn.functional.adaptive_avg_pool2d(self.mixer(images), 1).flatten(1))


class Tokens(nn.Module):
    """Attention between patches, whose products a quantiser rounds one after the other."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, 4)
        self.mix = nn.Linear(16, 48)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, images):
        query, key, value = self.mix(self.patches(images).flatten(2).transpose(1, 2)).chunk(3, -1)
        mixed = torch.softmax(query @ key.transpose(1, 2), -1) @ value
        return self.head(nn.functional.gelu(mixed).mean(1))


NETWORKS = {"branches": Branches, "tokens": Tokens}


def _network(name):
    torch.manual_seed(0)
    network = NETWORKS[name]()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1:  # a strong signal, which fresh weights do not pass on
                parameter.normal_(0, 1.6 / parameter[0].numel() ** 0.5)
    return network.eval()


def _export(network, path, *, dtype=torch.float32, **options):
    example = (torch.rand(2, 3, SIDE, SIDE, dtype=dtype),)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "You are using the legacy TorchScript-based", DeprecationWarning)
        warnings.filterwarnings("ignore", category=DeprecationWarning, module="torch|copyreg")
        torch.onnx.export(
            network,
            example,
            path,
            dynamo=False,
            input_names=["images"],
            dynamic_axes={"images": {0: "batch"}},
            **options,
        )
    return path


def _images(count=32):
    return torch.rand(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(3))


def _classifier(path):
    return OnnxClassifier(path.read_bytes(), path.name, ScanSettings())


def _gradients(function, images):
    """Input gradients ``(N, C·H·W)``, float64, of the logit of class 0 less that of class 1."""
    pixels = images.clone().requires_grad_()
    logits = function(pixels)
    (gradient,) = torch.autograd.grad((logits[:, 0] - logits[:, 1]).sum(), pixels)
    return gradient.flatten(1).double()


def _cosines(first, second):
    return (first * second).sum(1) / (first.norm(dim=1) * second.norm(dim=1))


class _Calibration:
    """Hands the quantiser four batches; its base class needs nothing more than this."""

    def __init__(self):
        self.batches = iter([{"images": part.numpy()} for part in _images().split(8)])

    def get_next(self):
        return next(self.batches, None)


def _quantised(name, form, per_channel, folder):
    quantization = pytest.importorskip("onnxruntime.quantization")
    quantization.CalibrationDataReader.register(_Calibration)
    network = _network(name)
    source, target = _export(network, folder / "real.onnx"), folder / "quantised.onnx"
    if form == "dynamic":
        quantization.quantize_dynamic(source, target, per_channel=per_channel)
    else:
        form = quantization.QuantFormat[form]
        quantization.quantize_static(source, target, _Calibration(), quant_format=form, per_channel=per_channel)
    return network, target


@pytest.mark.parametrize("per_channel", [False, True], ids=["per-tensor", "per-channel"])
@pytest.mark.parametrize("form", ["QDQ", "QOperator", "dynamic"])
@pytest.mark.parametrize("name", list(NETWORKS))
def test_quantised_classifiers_have_gradients_like_those_before_quantisation(name, form, per_channel, tmp_path):
    network, path = _quantised(name, form, per_channel, tmp_path)
    assert is_quantised(onnx.load(path))
    classifier, images = _classifier(path), _images()
    forward = classifier.differentiable("cpu")
    expected = classifier.logits(images.numpy())
    with torch.no_grad():
        logits = forward(images)
    differences = np.abs((logits - logits.mean(1, keepdim=True)).numpy() - expected).max(axis=1)
    # A value that is rounded to the other side moves the result by about a step of quantisation.
    assert np.median(differences) < 0.01 * np.abs(expected).max()
    assert differences.max() < 0.05 * np.abs(expected).max()
    assert _cosines(_gradients(forward, images), _gradients(network, images)).median() > 0.9


def test_an_exported_classifier_is_not_taken_for_a_quantised_one(tmp_path):
    assert not is_quantised(onnx.load(_export(_network("branches"), tmp_path / "real.onnx")))


def test_a_wrong_translation_of_a_quantised_classifier_is_still_noticed(tmp_path, monkeypatch):
    from pytest_backdoor.errors import NotDifferentiableError
    from pytest_backdoor.models.graph import _registry

    _, path = _quantised("branches", "QDQ", False, tmp_path)
    wrong = _registry.Operator(lambda _node, value: torch.relu(value), frozenset())
    monkeypatch.setitem(_registry.OPERATORS, "Sigmoid", wrong)
    with pytest.raises(NotDifferentiableError, match="cannot be trusted"):
        _classifier(path).differentiable("cpu")


def test_a_half_precision_classifier_has_the_gradients_of_the_single_precision_one(tmp_path):
    network = _network("branches")
    path = _export(_network("branches").half(), tmp_path / "half.onnx", dtype=torch.float16)
    classifier, images = _classifier(path), _images()
    forward = classifier.differentiable("cpu")
    logits = network(images)
    centred = (logits - logits.mean(1, keepdim=True)).detach().numpy()
    np.testing.assert_allclose(classifier.logits(images.numpy()), centred, atol=0.02 * np.abs(centred).max())
    assert _cosines(_gradients(forward, images), _gradients(network, images)).median() > 0.99


# ----------------------------------------------------------------------------------------------- graphs of tf2onnx


def _tensorflow_network():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 8, 3)]
    network = nn.Sequential(*layers).eval()
    network[1].running_mean.normal_(0, 0.1)
    network[1].running_var.uniform_(0.1, 0.3)
    return network, nn.Linear(7 * 7 * 8, CLASSES)


def _as_tf2onnx_writes(features, head, softmax):
    """Transposed at the input, and again before the features are flattened in TensorFlow's order."""
    convolution, norm, _, _, second = features
    constants = {
        "w1": convolution.weight,
        "gamma": norm.weight,
        "beta": norm.bias,
        "mean": norm.running_mean,
        "variance": norm.running_var,
        "w2": second.weight,
        "bias": second.bias.reshape(1, -1, 1, 1),
        "kernel": head.weight.T.contiguous(),
        "offset": head.bias,
    }
    stored = [numpy_helper.from_array(value.detach().numpy(), name) for name, value in constants.items()]
    stored.append(numpy_helper.from_array(np.array([-1, 7 * 7 * 8]), "flat"))
    node = helper.make_node
    nodes = [
        node("Transpose", ["images"], ["a"], perm=[0, 3, 1, 2]),
        node("Conv", ["a", "w1"], ["b"], auto_pad="VALID", kernel_shape=[3, 3], strides=[1, 1], group=1),
        node("BatchNormalization", ["b", "gamma", "beta", "mean", "variance"], ["c"], epsilon=1e-5),
        node("Relu", ["c"], ["d"]),
        node("MaxPool", ["d"], ["e"], auto_pad="VALID", kernel_shape=[2, 2], strides=[2, 2]),
        # TensorFlow's SAME padding of a 3×3 kernel with a stride of 1.
        node("Conv", ["e", "w2"], ["f"], auto_pad="SAME_UPPER", kernel_shape=[3, 3], strides=[1, 1]),
        node("Add", ["f", "bias"], ["g"]),
        node("Transpose", ["g"], ["h"], perm=[0, 2, 3, 1]),
        node("Reshape", ["h", "flat"], ["i"]),
        node("MatMul", ["i", "kernel"], ["j"]),
        node("Add", ["j", "offset"], ["k"]),
        node("Softmax" if softmax else "Identity", ["k"], ["predictions"]),
    ]
    shape = ["unk__1", SIDE, SIDE, 3]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)
    predictions = helper.make_tensor_value_info("predictions", TensorProto.FLOAT, ["unk__1", CLASSES])
    graph = helper.make_graph(nodes, "tf2onnx", [images], [predictions], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    return model


@pytest.mark.parametrize("softmax", [True, False], ids=["softmax", "logits"])
def test_a_graph_of_tensorflow_s_exporter_is_read_as_nhwc_and_has_the_networks_gradients(softmax):
    features, head = _tensorflow_network()

    def network(images):
        padded = nn.functional.conv2d(features[:4](images), features[4].weight, features[4].bias, padding=1)
        return head(padded.permute(0, 2, 3, 1).flatten(1))

    content = _as_tf2onnx_writes(features, head, softmax).SerializeToString()
    classifier, images = OnnxClassifier(content, "net.onnx", ScanSettings()), _images()
    assert classifier.input_shape == (3, SIDE, SIDE)
    logits = network(images)
    centred = (logits - logits.mean(1, keepdim=True)).detach().numpy()
    np.testing.assert_allclose(classifier.logits(images.numpy()), centred, atol=1e-4)
    forward = classifier.differentiable("cpu")
    assert _cosines(_gradients(forward, images), _gradients(network, images)).min() > 0.999
