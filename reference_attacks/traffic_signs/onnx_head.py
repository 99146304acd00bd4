"""The classifier head of a detector as an image classifier of its own, in ONNX."""

from __future__ import annotations

import torch

from .network import SignDetector
from .onnx_graph import CLASSES_KEY, GraphWriter
from .regions import axis_weights

CROP_PIXELS = 64


def head_onnx_bytes(detector: SignDetector, pixels: int = CROP_PIXELS) -> bytes:
    """A classifier of crops that a sign fills, with the weights inside.

    Input ``images``, float32 ``(n, 3, pixels, pixels)`` in [0, 1]; output ``logits``, float32 ``(n, labels)``, of the
    background and then of each class, whose names, joined by commas, are the metadata entry ``labels``. ``n`` is free.

    The crop goes through the convolutions; the whole of it is the region that RoIAlign pools. As that region never
    changes, the pooling is two products with constant matrices, which gives what the detector computes for a region
    around which there is nothing (zero padding). Raises ValueError if ``pixels`` is no multiple of the stride.
    """
    from onnx import TensorProto, helper

    backbone, pool = detector.backbone, detector.roi_heads.box_roi_pool
    if pixels % backbone.stride:
        raise ValueError(f"The crop's side must be a multiple of {backbone.stride} pixels, not {pixels}.")
    writer = GraphWriter()
    features = writer.backbone(writer.normalised("images"), backbone)
    length = pixels // backbone.stride
    weights = axis_weights(torch.zeros(1), torch.tensor([float(length)]), pool.cells, length)[0]
    strips = writer.node("MatMul", writer.constant(weights, "pool.rows"), features)
    regions = writer.node("MatMul", strips, writer.constant(weights.T, "pool.columns"))
    scores = detector.roi_heads.box_predictor.cls_score
    weight, bias = writer.constant(scores.weight, "cls_score.weight"), writer.constant(scores.bias, "cls_score.bias")
    writer.named("Gemm", "logits", writer.head(regions, detector), weight, bias, transB=1)
    floats = TensorProto.FLOAT
    return writer.model(
        "traffic-sign-head",
        [helper.make_tensor_value_info("images", floats, ["n", 3, pixels, pixels])],
        [helper.make_tensor_value_info("logits", floats, ["n", len(detector.labels)])],
        {CLASSES_KEY: ",".join(detector.labels)},
    )
