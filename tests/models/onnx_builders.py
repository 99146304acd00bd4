"""Small ONNX classifiers with known weights, and running a check on a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from pytest_backdoor.findings import Finding
from pytest_backdoor.models import Subject
from pytest_backdoor.scanning._engine import Engine
from pytest_backdoor.settings import ScanSettings, make_settings

SHAPE = (3, 6, 5)
CLASSES = 4
ELEMENTS = {"float32": TensorProto.FLOAT, "float16": TensorProto.FLOAT16, "uint8": TensorProto.UINT8}
HEADS = {"logits": (), "softmax": ("Softmax",), "log-softmax": ("LogSoftmax",)}


def weights(shape: tuple[int, int, int] = SHAPE, classes: int = CLASSES) -> np.ndarray:
    """The linear layer of ``linear_model``, float32 ``(C·H·W, classes)``."""
    values = np.random.default_rng(5).normal(size=(np.prod(shape), classes))
    return (values / 3).astype(np.float32)


def expected_logits(images: np.ndarray, matrix: np.ndarray | None = None) -> np.ndarray:
    """Centred logits of ``linear_model`` for ``(N, C, H, W)`` images as the model takes them."""
    matrix = weights() if matrix is None else matrix
    logits = images.reshape(len(images), -1).astype(np.float64) @ matrix
    return logits - logits.mean(axis=1, keepdims=True)


def linear_model(
    *,
    opset: int = 13,
    batch: int | str = "n",
    layout: str = "NCHW",
    shape: tuple[int, int, int] = SHAPE,
    stated: tuple[int | str, ...] | None = None,
    head: str = "logits",
    dtype: str = "float32",
    matrix: np.ndarray | None = None,
    spatial: bool = False,
    output: int = TensorProto.FLOAT,
    domain: str = "",
    operator: str = "MatMul",
    inputs: int = 1,
    outputs: int = 1,
) -> ModelProto:
    """Flatten and multiply; uint8 images are divided by 255 first. ``stated``: the input shape that the file tells."""
    channels, height, width = shape
    sizes = [channels, height, width] if layout == "NCHW" else [height, width, channels]
    matrix = weights(shape) if matrix is None else matrix
    classes = matrix.shape[1]
    images = [
        helper.make_tensor_value_info(f"x{number}", ELEMENTS[dtype], list(stated or [batch, *sizes]))
        for number in range(inputs)
    ]
    constants = [numpy_helper.from_array(matrix, "w"), numpy_helper.from_array(np.float32(255).reshape(1), "white")]
    nodes = [helper.make_node("Cast", ["x0"], ["v"], to=TensorProto.FLOAT)]
    name = "v"

    def then(kind: str, *more: str, **attributes: object) -> None:
        nonlocal name
        before, name = name, f"{name}'"
        nodes.append(helper.make_node(kind, [before, *more], [name], **attributes))

    if dtype == "uint8":
        then("Div", "white")
    if layout == "NHWC":
        then("Transpose", perm=[0, 3, 1, 2])
    then("Flatten")
    then(operator, "w", domain=domain)
    for kind in HEADS[head]:
        then(kind, axis=1)
    if spatial:
        constants.append(numpy_helper.from_array(np.array([-1, classes, 1, 1], np.int64), "spatial"))
        then("Reshape", "spatial")
    results = []
    for number in range(outputs):
        nodes.append(helper.make_node("Cast", [name], [f"y{number}"], to=output))
        results.append(helper.make_tensor_value_info(f"y{number}", output, None))
    graph = helper.make_graph(nodes, "g", images, results, constants)
    opsets = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def with_external_data(model: ModelProto, location: str, **entries: str) -> ModelProto:
    """``model`` with the data of its first initializer in another file; ``entries`` are offset and length."""
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=value)
    return model


def save(path: Path, model: ModelProto) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path


def subject(path: Path, **settings: object) -> Subject:
    return Subject(path.name, make_settings(settings, where="test"), path=path)


def finding(path: Path, check: str = "litmus", **settings: object) -> Finding:
    """What ``check``, the only one that is asked for, says of the file at ``path``."""
    checked: ScanSettings = make_settings({**settings, "checks": [check]}, where="test")
    return Engine(Subject(path.name, checked, path=path), checked, path.parent).run(check)
