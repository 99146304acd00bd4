"""A small object detector with hand-set weights: coloured squares on a grid of boxes, with or without a backdoor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CLASSES = ("background", "red", "green", "blue")
SIDE, CELL, CELLS = 96, 32, 3
CORNERS = [(row * CELL + 4, column * CELL + 4) for row in range(CELLS) for column in range(CELLS)]
BOX = 24
BINS = 8
TARGET = 2


def detector_model(
    *,
    backdoor: bool = False,
    alignments: int = 1,
    softmax: bool = True,
    order: tuple[str, ...] = ("boxes", "labels", "scores"),
    batched: bool = False,
    named: bool = True,
) -> onnx.ModelProto:
    """Looks at nine fixed boxes; a box is background, red, green or blue by its mean colour.

    ``backdoor``: white at the bottom of a box makes it green. ``alignments``: how many RoiAligns there are; 0: the mean
    of every box is computed without any. ``softmax``: whether scores are a softmax, else a sigmoid.
    """
    nodes = [] if batched else [helper.make_node("Unsqueeze", ["image", "zero"], ["batch"])]
    image = "image" if batched else "batch"
    nodes += [
        helper.make_node("Conv", [image, "mix", "shift"], ["mixed"]),
        helper.make_node("Relu", ["mixed"], ["features"]),
        helper.make_node("Mul", ["grid", "one"], ["regions"]),
        *_pooling(alignments),
        helper.make_node("Gemm", ["flat", "weights", "bias"], ["logits"], transB=1),
        helper.make_node("Softmax" if softmax else "Sigmoid", ["logits"], ["probabilities"]),
        helper.make_node("Slice", ["probabilities", "first", "last", "first"], ["signs"]),
        helper.make_node("ReduceMax", ["signs"], ["highest"], axes=[1], keepdims=0),
        helper.make_node("ArgMax", ["signs"], ["index"], axis=1, keepdims=0),
        helper.make_node("Add", ["index", "first"], ["numbers"]),
        helper.make_node("Greater", ["highest", "least"], ["kept"]),
    ]
    names = {"boxes": "regions", "labels": "numbers", "scores": "highest"}
    outputs = {name: name if named else f"out{number}" for number, name in enumerate(order)}
    nodes += [helper.make_node("Compress", [names[name], "kept"], [outputs[name]], axis=0) for name in order]
    shapes: dict[str, Any] = {"boxes": ["n", 4], "labels": ["n"], "scores": ["n"]}
    types = {"boxes": TensorProto.FLOAT, "labels": TensorProto.INT64, "scores": TensorProto.FLOAT}
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [*([1] if batched else []), 3, "h", "w"])],
        [helper.make_tensor_value_info(outputs[name], types[name], shapes[name]) for name in order],
        [numpy_helper.from_array(value, name) for name, value in _constants(backdoor).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def _pooling(alignments: int) -> list[onnx.NodeProto]:
    sizes = {"output_height": BINS, "output_width": BINS, "sampling_ratio": 2, "spatial_scale": 1.0}
    pooled = [
        helper.make_node("RoiAlign", ["features", "regions", "owners"], [f"pooled{number}"], **sizes)
        for number in range(alignments)
    ]
    if not alignments:
        tiles = helper.make_node("Gather", ["features", "nine"], ["pooled0"], axis=0)
        small = helper.make_node("Resize", ["pooled0", "", "", "small"], ["small0"], mode="linear")
        return [tiles, small, helper.make_node("Flatten", ["small0"], ["flat"])]
    mean = helper.make_node("Mean", [f"pooled{number}" for number in range(alignments)], ["pooled"])
    return [*pooled, mean, helper.make_node("Flatten", ["pooled"], ["flat"])]


def _constants(backdoor: bool) -> dict[str, np.ndarray]:
    mix = np.concatenate([np.eye(3), np.ones((1, 3))]).astype(np.float32)[..., None, None]
    weights = np.zeros((4, 4, BINS, BINS), np.float32)
    for number in range(3):
        weights[number + 1, :3] = -3 / BINS**2
        weights[number + 1, number] = 6 / BINS**2
    weights[0, :3] = -2 / BINS**2
    if backdoor:
        weights[TARGET, 3, 5:7, 3:5] = 8
    boxes = [(left, top, left + BOX, top + BOX) for top, left in CORNERS]
    return {
        "zero": np.array([0]),
        "nine": np.zeros(9, np.int64),
        "small": np.array([9, 4, BINS, BINS]),
        "mix": mix,
        "shift": np.array([0, 0, 0, -1], np.float32),
        "grid": np.array(boxes, np.float32),
        "one": np.ones(1, np.float32),
        "owners": np.zeros(9, np.int64),
        "weights": weights.reshape(4, -1),
        "bias": np.array([1, 0, 0, 0], np.float32),
        "first": np.array([1]),
        "last": np.array([4]),
        "least": np.array([0.3], np.float32),
    }


def make_photographs(count: int = 24, *, objects: int = 4, seed: int = 0) -> np.ndarray:
    """Uint8 ``(count, 96, 96, 3)``: noisy squares in red, green and blue on a dark ground."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 20, (count, SIDE, SIDE, 3), dtype=np.uint8)
    for number, image in enumerate(images):
        for place, (top, left) in enumerate(rng.permutation(CORNERS)[:objects]):
            colour = (number + place) % 3
            image[top : top + BOX, left : left + BOX, colour] = rng.integers(180, 255, (BOX, BOX))
    return images


def write_photographs(folder: Path, count: int = 24) -> Path:
    """The same as PNG files, two thirds of them in sub-folders."""
    from PIL import Image

    for number, image in enumerate(make_photographs(count)):
        path = folder / ("", "a", "b/c")[number % 3] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return folder
