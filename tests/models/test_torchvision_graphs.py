"""torchvision's classifiers, exported by both of torch's exporters, against ONNX Runtime and the modules themselves."""

from __future__ import annotations

import io
import warnings
from functools import partial

import numpy as np
import onnx
import onnxruntime
import pytest

torch = pytest.importorskip("torch")
models = pytest.importorskip("torchvision.models")

from torch import nn  # noqa: E402  (after the skips)
from torchvision.models import convnext, resnet, swin_transformer, vgg  # noqa: E402

from pytest_backdoor.models.graph import torch_program  # noqa: E402

CLASSES, SAMPLES = 5, 5


def _vgg11_bn(num_classes):
    """VGG-11's layers; the 4096 hidden units of its own head take seconds to draw and add no operator."""
    features = vgg.make_layers(vgg.cfgs["A"], batch_norm=True)
    return nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, num_classes))


def _convnext(num_classes):
    blocks = [convnext.CNBlockConfig(16, 32, 1), convnext.CNBlockConfig(32, None, 2)]
    return models.ConvNeXt(blocks, num_classes=num_classes)


_swin = partial(models.SwinTransformer, [4, 4], 16, [2, 2], [2, 2], [4, 4])
_swin_v2 = partial(
    _swin, block=swin_transformer.SwinTransformerBlockV2, downsample_layer=swin_transformer.PatchMergingV2
)
_maxvit = partial(
    models.MaxVit,
    input_size=(32, 32),
    stem_channels=8,
    partition_size=2,
    block_channels=[8, 16],
    block_layers=[1, 1],
    head_dim=4,
    stochastic_depth_prob=0.0,
)
_vision_transformer = partial(
    models.VisionTransformer, image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=64
)
_plain_inception = {"init_weights": False, "aux_logits": False}

NETWORKS = {
    "resnet10": (partial(models.ResNet, resnet.BasicBlock, [1, 1, 1, 1]), 32),
    "resnext14": (partial(models.ResNet, resnet.Bottleneck, [1, 1, 1, 1], groups=4, width_per_group=8), 32),
    "resnet18": (models.resnet18, 32),
    "mobilenet_v2": (models.mobilenet_v2, 32),
    "mobilenet_v3_small": (models.mobilenet_v3_small, 32),
    "vgg11_bn": (_vgg11_bn, 32),
    "densenet9": (partial(models.DenseNet, 8, (2, 2), 16), 32),
    "densenet121": (models.densenet121, 32),
    "shufflenet_v2_x0_5": (models.shufflenet_v2_x0_5, 32),
    "efficientnet_b0": (models.efficientnet_b0, 32),
    "efficientnet_v2_s": (models.efficientnet_v2_s, 32),
    "squeezenet1_1": (models.squeezenet1_1, 32),
    "googlenet": (partial(models.googlenet, **_plain_inception), 32),
    "inception_v3": (partial(models.inception_v3, **_plain_inception), 75),
    "regnet_y_400mf": (models.regnet_y_400mf, 32),
    "convnext": (_convnext, 32),
    "convnext_tiny": (models.convnext_tiny, 32),
    "vision_transformer": (_vision_transformer, 32),
    "swin": (_swin, 32),
    "swin_v2": (_swin_v2, 32),
    "mnasnet0_5": (models.mnasnet0_5, 32),
    "maxvit": (_maxvit, 32),
}
"""Constructors, which take the number of classes, and the length of the images' sides."""

LARGE = {"efficientnet_v2_s", "inception_v3", "convnext_tiny", "resnet18"}
"""Networks whose export and gradients take a second or more with either exporter."""

DYNAMO_BY_DEFAULT = {"resnet10", "convnext", "vision_transformer"}
"""The newer exporter takes up to 13 seconds a network; these stand for the others."""


def _network(name):
    """A random network whose outputs depend on the image; fresh ones hide what is wrong behind zeros."""
    constructor, side = NETWORKS[name]
    torch.manual_seed(0)
    network = constructor(num_classes=CLASSES)
    with torch.no_grad():
        for label, parameter in network.named_parameters():
            if label.endswith("layer_scale"):  # 1e-6, which takes the block out
                parameter.uniform_(0.5, 1)
            elif not parameter.any() or parameter.dim() < 2:
                parameter.add_(0.1 * torch.randn_like(parameter))
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
        network.train()(torch.rand(16, 3, side, side))  # the statistics of the batch norms, or the signal fades
    return network.eval(), side


def _export(network, side, exporter):
    example = (torch.rand(2, 3, side, side),)
    with warnings.catch_warnings():
        # What both exporters say of their own age, and the older one of shapes that it takes for constants.
        warnings.filterwarnings("ignore", "You are using the legacy TorchScript-based", DeprecationWarning)
        warnings.filterwarnings("ignore", category=DeprecationWarning, module="torch|copyreg")
        warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
        if exporter == "dynamo":
            batch = ({0: torch.export.Dim.DYNAMIC},)
            return torch.onnx.export(
                network, example, dynamo=True, verbose=False, dynamic_shapes=batch, input_names=["images"]
            ).model_proto
        buffer = io.BytesIO()
        torch.onnx.export(
            network, example, buffer, dynamo=False, input_names=["images"], dynamic_axes={"images": {0: "batch"}}
        )
    return onnx.load_from_string(buffer.getvalue())


def _runtime_outputs(model, images):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"images": images.numpy()})[0]


def _outputs_and_gradient(function, images):
    """Outputs ``(N, K)`` and the input gradient of a fixed random sum of them, ``(N, C·H·W)`` in float64."""
    pixels = images.clone().requires_grad_()
    outputs = function(pixels)
    weights = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(1))
    (outputs * weights).sum().backward()
    return outputs.detach(), pixels.grad.flatten(1).double()


def _cases():
    for name in NETWORKS:
        for exporter in ("torchscript", "dynamo"):
            quick = name in DYNAMO_BY_DEFAULT if exporter == "dynamo" else name not in LARGE
            yield pytest.param(name, exporter, marks=[] if quick else pytest.mark.slow, id=f"{name}-{exporter}")


@pytest.mark.parametrize(("name", "exporter"), list(_cases()))
def test_exported_classifier_has_the_runtimes_outputs_and_the_modules_gradients(name, exporter):
    if exporter == "dynamo":
        pytest.importorskip("onnxscript")
    network, side = _network(name)
    model = _export(network, side, exporter)
    images = torch.rand(SAMPLES, 3, side, side, generator=torch.Generator().manual_seed(2))
    outputs, gradient = _outputs_and_gradient(torch_program(model), images)
    expected, expected_gradient = _outputs_and_gradient(network, images)
    runtime = _runtime_outputs(model, images)
    spread = np.ptp(runtime, axis=0).max()
    assert outputs.shape == (SAMPLES, CLASSES)
    assert spread > 1e-2 * np.abs(runtime).max()
    np.testing.assert_allclose(outputs, runtime, atol=1e-3 * spread)
    np.testing.assert_allclose(outputs, expected, atol=1e-3 * spread)
    lengths, expected_lengths = gradient.norm(dim=1), expected_gradient.norm(dim=1)
    assert bool((expected_lengths > 0).all())
    cosines = (gradient * expected_gradient).sum(1) / (lengths * expected_lengths)
    # The exporters fold batch norms into convolutions, and a value near 0 may then be rounded to the other side of it.
    assert cosines.median() > 0.999
    assert cosines.min() > 0.99
    torch.testing.assert_close(lengths, expected_lengths, rtol=3e-2, atol=0.0)
