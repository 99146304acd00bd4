"""Classifiers that only see their classes if images are prepared as they were made for, and images for them."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from pytest_backdoor.models._preprocessing import Preprocessing

SIZE = 6
CLASSES = 16


def prepared(**parts: object) -> Preprocessing:
    return Preprocessing(**{"layout": "NCHW", "low": 0.0, "high": 1.0, "mean": (0.0,), "std": (1.0,), **parts})


def levels(channels: int, classes: int = CLASSES) -> np.ndarray:
    """The colour of each class, ``(classes, channels)`` in [0, 1]: a ramp that falls in the last of three channels."""
    rising = (np.arange(classes) + 0.5) / classes
    return np.stack([1 - rising if number == 2 else rising for number in range(channels)], axis=1)


def ramp_images(channels: int = 1, count: int = 300, classes: int = CLASSES, *, grey: bool = False, seed: int = 0):
    """uint8 ``(N, H, W, C)`` images of one colour each, a little off their class's, with noise; and their classes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, count)
    colours = np.repeat(levels(1, classes), channels, axis=1) if grey else levels(channels, classes)
    images = colours[labels][:, None, None] + rng.uniform(-0.3, 0.3, (count, 1, 1, 1)) / classes
    images = images + rng.normal(0, 0.01, (count, SIZE, SIZE, channels))
    return np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8), labels


def ramp_weights(wanted: Preprocessing, channels: int, classes: int = CLASSES, *, grey: bool = False):
    """Matrix ``(C·H·W, classes)`` and bias of a linear layer that gives the class whose colour is the nearest."""
    colours = np.repeat(levels(1, classes), channels, axis=1) if grey else levels(channels, classes)
    plain = prepared(
        low=wanted.low, high=wanted.high, mean=wanted.mean, std=wanted.std, channel_order=wanted.channel_order
    )
    points = plain.for_numpy(colours.astype(np.float32)[:, :, None, None])[:, :, 0, 0].astype(np.float64)
    matrix = np.repeat(2 * points.T / (channels * SIZE * SIZE), SIZE * SIZE, axis=0)
    return matrix.astype(np.float32), -(points**2).mean(axis=1).astype(np.float32)


def ramp_model(
    wanted: Preprocessing,
    channels: int = 1,
    classes: int = CLASSES,
    *,
    grey: bool = False,
    stated: tuple[int | str, ...] | None = None,
    before: tuple[tuple[str, float], ...] = (),
) -> ModelProto:
    """The linear classifier as an ONNX model; ``before``: operators with a constant that stand in front of it."""
    matrix, bias = ramp_weights(wanted, channels, classes, grey=grey)
    sizes = [channels, SIZE, SIZE] if wanted.layout == "NCHW" else [SIZE, SIZE, channels]
    constants = [numpy_helper.from_array(matrix, "w"), numpy_helper.from_array(bias, "b")]
    nodes, name = [], "x"
    for number, (kind, constant) in enumerate(before):
        constants.append(numpy_helper.from_array(np.float32([constant]), f"c{number}"))
        nodes.append(helper.make_node(kind, [name, f"c{number}"], [f"v{number}"]))
        name = f"v{number}"
    if wanted.layout == "NHWC":
        nodes.append(helper.make_node("Transpose", [name], ["t"], perm=[0, 3, 1, 2]))
        name = "t"
    nodes += [helper.make_node("Flatten", [name], ["f"]), helper.make_node("Gemm", ["f", "w", "b"], ["y"])]
    graph = helper.make_graph(
        nodes,
        "ramp",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(stated or ["n", *sizes]))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", classes])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
