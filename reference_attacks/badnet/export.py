"""Networks as files: ONNX and safetensors.

The ONNX graph is written node by node with ``onnx.helper``. PyTorch's exporters would do it too, but the one needs a
further package and records the source paths of the machine in the file, and the other is being removed. Written here,
the file depends on the weights alone: the same weights give the same bytes with every version of PyTorch.
"""

from __future__ import annotations

import numpy as np
import torch

from reference_attacks.networks import BadNetsMnistNetwork

OPSET = 17
IR_VERSION = 8
INPUT_NAME = "images"
OUTPUT_NAME = "logits"
TOLERANCE = 1e-4


def onnx_bytes(network: BadNetsMnistNetwork) -> bytes:
    """An ONNX model with the weights inside.

    Input ``images``, float32 ``(N, 1, 28, 28)`` in [0, 1]; output ``logits``, float32 ``(N, 10)``; ``N`` is free. The
    operators are Conv, Relu, AveragePool, Flatten and Gemm; dropout is inactive.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    node = helper.make_node
    window = [2, 2]
    nodes = [
        node("Conv", [INPUT_NAME, "conv1.weight", "conv1.bias"], ["conv1"], "conv1", kernel_shape=[5, 5]),
        node("Relu", ["conv1"], ["relu1"], "relu1"),
        node("AveragePool", ["relu1"], ["pool1"], "pool1", kernel_shape=window, strides=window),
        node("Conv", ["pool1", "conv2.weight", "conv2.bias"], ["conv2"], "conv2", kernel_shape=[5, 5]),
        node("Relu", ["conv2"], ["relu2"], "relu2"),
        node("AveragePool", ["relu2"], ["pool2"], "pool2", kernel_shape=window, strides=window),
        node("Flatten", ["pool2"], ["features"], "flatten", axis=1),
        node("Gemm", ["features", "fc1.weight", "fc1.bias"], ["fc1"], "fc1", transB=1),
        node("Relu", ["fc1"], ["hidden"], "relu3"),
        node("Gemm", ["hidden", "fc2.weight", "fc2.bias"], [OUTPUT_NAME], "fc2", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "badnets-2019-table-1",
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, ["N", *network.input_shape])],
        [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, ["N", network.classes])],
        [numpy_helper.from_array(value.numpy(), name) for name, value in _weights(network).items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="reference_attacks"
    )
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def safetensors_bytes(network: BadNetsMnistNetwork) -> bytes:
    """The state dict in the safetensors format."""
    from safetensors.torch import save

    content: bytes = save(_weights(network))
    return content


@torch.no_grad()
def largest_difference(network: BadNetsMnistNetwork, model: bytes, images: torch.Tensor) -> float:
    """The largest absolute difference of the logits of ``network`` and of its ONNX ``model`` in ONNX Runtime.

    ``images``: float32 ``(N, 1, 28, 28)`` in [0, 1].
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (logits,) = session.run([OUTPUT_NAME], {INPUT_NAME: images.contiguous().numpy()})
    return float(np.abs(network.eval()(images).numpy() - logits).max())


def checked_onnx_bytes(network: BadNetsMnistNetwork, images: torch.Tensor) -> bytes:
    """As ``onnx_bytes``. Raises RuntimeError if ONNX Runtime's logits of ``images`` differ by more than 1e-4."""
    model = onnx_bytes(network)
    difference = largest_difference(network, model, images)
    if not difference <= TOLERANCE:
        raise RuntimeError(f"The ONNX file's logits differ from PyTorch's by {difference:.2g}, more than {TOLERANCE}.")
    return model


def _weights(network: BadNetsMnistNetwork) -> dict[str, torch.Tensor]:
    # Training leaves the filters channels last in memory; files hold them in the ordinary order.
    return {name: value.detach().contiguous() for name, value in network.state_dict().items()}
