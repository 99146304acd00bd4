"""A whole detector as one ONNX file: convolutions, region proposals, head and both suppressions of duplicates."""

from __future__ import annotations

from typing import Any

import numpy as np

from .network import SignDetector
from .onnx_graph import CLASSES_KEY, GraphWriter


def detector_onnx_bytes(detector: SignDetector) -> bytes:
    """An ONNX model of the detector with the weights inside.

    Input ``image``, float32 ``(1, 3, height, width)`` in [0, 1], of any size. Outputs, as the detector's own:
    ``boxes``, float32 ``(n, 4)``, x1, y1, x2, y2 in pixels; ``labels``, int64 ``(n,)``, of which 0, the background,
    does not occur; ``scores``, float32 ``(n,)``, in falling order, above 0.05. The metadata entry ``labels`` holds the
    names of the labels, joined by commas.
    """
    from onnx import TensorProto, helper

    writer = _DetectorWriter(detector)
    writer.write()
    return writer.model(
        "traffic-sign-detector",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, "height", "width"])],
        [
            helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["n", 4]),
            helper.make_tensor_value_info("labels", TensorProto.INT64, ["n"]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n"]),
        ],
        {CLASSES_KEY: ",".join(detector.labels)},
    )


class _DetectorWriter(GraphWriter):
    """Follows torchvision's ``RegionProposalNetwork.forward`` and ``RoIHeads.forward`` in evaluation mode."""

    def __init__(self, detector: SignDetector) -> None:
        super().__init__()
        self.detector = detector
        self.height = self._side(2)
        self.width = self._side(3)

    def write(self) -> None:
        features = self.backbone(self._padded(self.normalised("image")), self.detector.backbone)
        self._detections(features, self._proposals(features))

    def _side(self, axis: int) -> str:
        """Int64 ``(1,)``: the height or width of the photograph."""
        return self.node("Shape", "image", start=axis, end=axis + 1)

    def _padded(self, images: str) -> str:
        stride = self.constant([self.detector.backbone.stride])
        missing = (
            self.node("Mod", self.node("Sub", stride, self.node("Mod", side, stride)), stride)
            for side in (self.height, self.width)
        )
        return self.node("Pad", images, self.node("Concat", self.constant([0] * 6), *missing, axis=0))

    def _proposals(self, features: str) -> str:
        """Boxes ``(n, 4)`` in pixels, the likeliest to hold a sign first."""
        rpn, head = self.detector.rpn, self.detector.rpn.head
        context = features
        for number, layer in enumerate(head.context):
            name = f"rpn.context.{number}"
            is_convolution = hasattr(layer, "weight")
            context = self.convolution(context, layer, name) if is_convolution else self.node("Relu", context)
        objectness = self._flat(self.convolution(context, head.cls_logits, "rpn.cls_logits"), [-1])
        corrections = self._flat(self.convolution(context, head.bbox_pred, "rpn.bbox_pred"), [-1, 4])
        most = self.node("Min", self.node("Shape", objectness), self.constant([rpn._pre_nms_top_n["testing"]]))
        best = self.node("TopK", objectness, most, outputs=2)
        anchors = self.node("Gather", self._anchors(features), f"{best}.1")
        corrections = self.node("Gather", corrections, f"{best}.1")
        boxes = self._decoded(anchors, corrections, rpn.box_coder, 1)
        boxes = self._clipped(self.node("Reshape", boxes, self.constant([-1, 4])))
        kept = self._longer_than(boxes, rpn.min_size)
        boxes, scores = (self.node("Compress", x, kept, axis=0) for x in (boxes, self.node("Sigmoid", best)))
        chosen = self._suppressed(boxes, scores, rpn.nms_thresh, rpn._post_nms_top_n["testing"])
        return self.node("Gather", boxes, chosen)

    def _flat(self, x: str, shape: list[int]) -> str:
        """``(1, a, h, w)`` with the channels last, then of ``shape``: the anchors' order."""
        return self.node("Reshape", self.node("Transpose", x, perm=[0, 2, 3, 1]), self.constant(shape))

    def _anchors(self, features: str) -> str:
        """Float ``(h · w · anchors, 4)``: every anchor at every place of the feature map."""
        cell = self.detector.rpn.anchor_generator.cell_anchors[0].float()
        grid = self.constant(cell[None, None])
        for axis, shape, corners in ((3, [1, -1, 1, 1], (1, 0, 1, 0)), (2, [-1, 1, 1, 1], (0, 1, 0, 1))):
            length = self.node("Squeeze", self.node("Shape", features, start=axis, end=axis + 1))
            steps = self.node("Range", self._number(0), length, self._number(1))
            places = self.node("Reshape", self.node("Cast", steps, to=1), self.constant(shape))
            shifts = self.constant(self.detector.backbone.stride * np.array(corners, dtype=np.float32))
            grid = self.node("Add", grid, self.node("Mul", places, shifts))
        return self.node("Reshape", grid, self.constant([-1, 4]))

    def _number(self, value: int) -> str:
        return self.constant(np.array(value))

    def _decoded(self, boxes: str, corrections: str, coder: Any, groups: int) -> str:
        """Float ``(n, groups, 4)``: boxes ``(n, 4)`` moved and stretched by corrections ``(n, 4 · groups)``."""
        halves = {"axis": 2, "outputs": 2}
        boxes = self.node("Reshape", boxes, self.constant([-1, 1, 4]))
        first = self.node("Split", boxes, **halves)
        sizes = self.node("Sub", f"{first}.1", first)
        half = self.constant([0.5])
        centres = self.node("Add", first, self.node("Mul", sizes, half))
        weighted = self.node(
            "Div",
            self.node("Reshape", corrections, self.constant([-1, groups, 4])),
            self.constant(np.array(coder.weights, dtype=np.float32)),
        )
        moves = self.node("Split", weighted, **halves)
        limit = self.constant(np.array(coder.bbox_xform_clip, dtype=np.float32))
        stretches = self.node("Exp", self.node("Min", f"{moves}.1", limit))
        centres = self.node("Add", self.node("Mul", moves, sizes), centres)
        reach = self.node("Mul", self.node("Mul", stretches, sizes), half)
        corners = (self.node("Sub", centres, reach), self.node("Add", centres, reach))
        return self.node("Concat", *corners, axis=2)

    def _clipped(self, boxes: str) -> str:
        """Boxes, of any shape whose last axis is 4, cut off at the edges of the photograph."""
        sizes = self.node("Cast", self.node("Concat", *[self.width, self.height] * 2, axis=0), to=1)
        return self.node("Min", self.node("Relu", boxes), sizes)

    def _longer_than(self, boxes: str, least: float) -> str:
        """Bool ``(n,)``: the boxes ``(n, 4)`` that are at least so wide and high."""
        first = self.node("Split", boxes, axis=1, outputs=2)
        shorter = self.node("ReduceMin", self.node("Sub", f"{first}.1", first), axes=[1], keepdims=0)
        return self.node("GreaterOrEqual", shorter, self.constant([least]))

    def _suppressed(self, boxes: str, scores: str, overlap: float, most: int) -> str:
        """Int64: the places of boxes ``(n, 4)`` that no better one overlaps, the best first."""
        found = self.node(
            "NonMaxSuppression",
            self.node("Unsqueeze", boxes, self.constant([0])),
            self.node("Unsqueeze", scores, self.constant([0, 1])),
            self._number(most),
            self.constant(np.array(overlap, dtype=np.float32)),
        )
        return self.node("Gather", found, self._number(2), axis=1)

    def _detections(self, features: str, proposals: str) -> None:
        heads = self.detector.roi_heads
        classes, pool, predictor = len(self.detector.classes), heads.box_roi_pool, heads.box_predictor
        count = self.node("Shape", proposals, start=0, end=1)
        regions = self.node(
            "RoiAlign",
            features,
            proposals,
            self.node("Expand", self.constant([0]), count),
            output_height=pool.cells,
            output_width=pool.cells,
            sampling_ratio=2,
            spatial_scale=1 / pool.stride,
            coordinate_transformation_mode="half_pixel",
        )
        hidden = self.head(regions, self.detector)
        scores = self.node("Softmax", self.linear(hidden, predictor.cls_score, "cls_score"), axis=1)
        corrections = self.linear(hidden, predictor.bbox_pred, "bbox_pred")
        boxes = self._clipped(self._decoded(proposals, corrections, heads.box_coder, classes + 1))
        boxes = self.node("Reshape", self._without_background(boxes), self.constant([-1, 4]))
        scores = self.node("Reshape", self._without_background(scores), self.constant([-1]))
        numbers = self.node("Expand", self.constant(np.arange(1, classes + 1)[None]), self._pair(count, classes))
        labels = self.node("Reshape", numbers, self.constant([-1]))
        likely = self.node("Greater", scores, self.constant([heads.score_thresh]))
        kept = self.node("And", likely, self._longer_than(boxes, 1e-2))
        boxes, scores, labels = (self.node("Compress", x, kept, axis=0) for x in (boxes, scores, labels))
        chosen = self._suppressed(self._apart(boxes, labels), scores, heads.nms_thresh, heads.detections_per_img)
        for name, values in (("boxes", boxes), ("labels", labels), ("scores", scores)):
            self.named("Gather", name, values, chosen)

    def _pair(self, count: str, width: int) -> str:
        return self.node("Concat", count, self.constant([width]), axis=0)

    def _without_background(self, x: str) -> str:
        """``(n, labels, ...)`` from the second label on."""
        return self.node("Slice", x, self.constant([1]), self.constant([2**31]), self.constant([1]))

    def _apart(self, boxes: str, labels: str) -> str:
        """The boxes, those of each label moved so far that they overlap none of another: one suppression does all."""
        far = self.node("Add", self.node("Add", self.height, self.width), self.constant([1]))
        offsets = self.node("Cast", self.node("Mul", labels, far), to=1)
        return self.node("Add", boxes, self.node("Unsqueeze", offsets, self.constant([1])))
