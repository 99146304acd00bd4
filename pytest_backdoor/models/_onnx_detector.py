"""ONNX object detectors: an image in; boxes, labels and scores out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..errors import ModelError, NotAssessableError, NotDifferentiableError
from ..settings import Layout, ScanSettings
from ._detector import Detections, RegionLogits, Regions
from ._embedding import embedded
from ._onnx_session import ELEMENT_TYPES, only_input, open_session, reason
from ._preprocessing import Preprocessing, declares_range, make_preprocessing
from ._resolution import Origin, Resolution

if TYPE_CHECKING:
    import numpy as np
    import onnx
    import onnxruntime
    import torch

    from .graph import RegionNames

FLOATS = ("tensor(float)", "tensor(float16)", "tensor(double)")
INTEGERS = ("tensor(int64)", "tensor(int32)")
PROBE = (256, 256)
SAME_SCORE = 2e-3
TOLERANCE = 2e-3


@dataclass(frozen=True, kw_only=True)
class DetectionOutputs:
    """The names of a detector's outputs."""

    boxes: str
    labels: str
    scores: str


def detection_outputs(session: onnxruntime.InferenceSession) -> DetectionOutputs | None:
    """The outputs of a model that gives, in any order, boxes (n, 4), labels (n) and scores (n); else None.

    Labels are whole numbers, the others are not. What a shape leaves open, or several outputs have in common, is told
    by the names.
    """
    outputs = session.get_outputs()
    boxes = _only("box", [node for node in outputs if node.type in FLOATS and _fits(node, 4)])
    labels = _only("label", [node for node in outputs if node.type in INTEGERS and _fits(node)])
    scores = _only("score", [node for node in outputs if node.type in FLOATS and _fits(node)])
    if boxes is None or labels is None or scores is None or len({boxes, labels, scores}) < 3:
        return None
    return DetectionOutputs(boxes=boxes, labels=labels, scores=scores)


def _fits(node: onnxruntime.NodeArg, columns: int | None = None) -> bool:
    """Whether an output may be a list, (n), or one of rows of so many ``columns``; a shape that is not told may be."""
    shape = node.shape or ()
    if columns is None:
        return len(shape) <= 1
    return not shape or (len(shape) == 2 and (not isinstance(shape[1], int) or shape[1] == columns))


def _only(name: str, nodes: list[onnxruntime.NodeArg]) -> str | None:
    named = [node.name for node in nodes if name in node.name.lower()]
    told = [node.name for node in nodes if node.shape]
    chosen = named if len(named) == 1 else told
    return str(chosen[0]) if len(chosen) == 1 else None


class OnnxDetector:
    """An ONNX object detector of one image; see ``Detector``.

    ``session``: the model ``content``, ``outputs``: what it gives; ``external`` as for ``OnnxClassifier``. Raises
    ModelError if its input is no image. What looks at its regions raises NotAssessableError, as ``region_names`` does,
    where there is not exactly one RoiAlign.
    """

    thread_safe = True

    def __init__(
        self,
        content: bytes,
        display: str,
        settings: ScanSettings,
        *,
        session: onnxruntime.InferenceSession,
        outputs: DetectionOutputs,
        external: Mapping[str, bytes] | None = None,
    ) -> None:
        self._content = content
        self._external = external or {}
        self._display = display
        self._settings = settings
        self._session = session
        self._outputs = outputs
        node = only_input(session, display)
        self._input = node.name
        self._batched = len(node.shape) == 4
        layout, self.channels, self.size = _image_form(node, display, settings)
        self.preprocessing: Preprocessing = make_preprocessing(
            settings, layout=layout, channels=self.channels, dtype=ELEMENT_TYPES[node.type], path=display
        )

    @cached_property
    def classes(self) -> int:
        """See ``Detector``. Raises as ``regions``."""
        import numpy as np

        noise = np.random.default_rng(0).random((self.channels, *(self.size or PROBE)), dtype=np.float32)
        logits = self._run(noise, [self._cut[1].logits])[0]
        if logits.ndim != 2 or logits.shape[1] < 2:
            raise NotAssessableError(
                f"{self._display} gives the regions of an image class scores of shape {list(logits.shape)}, not one "
                "for each of two or more classes, so this object detector cannot be audited."
            )
        return int(logits.shape[1])

    def describe(self) -> dict[str, Any]:
        """``task`` and ``preprocessing`` of the report, JSON values; the first is None before ``classes`` is known."""
        origin: Origin = "declared" if declares_range(self._settings) else "assumed"
        if self.preprocessing.integer:
            origin = "graph"
        classes = self.__dict__.get("classes")
        shape = None if self.size is None else [self.channels, *self.size]
        return {
            "task": classes and {"kind": "object-detection", "input_shape": shape, "classes": classes},
            "preprocessing": Resolution(preprocessing=self.preprocessing, origin=origin).to_json(),
        }

    def detect(self, image: np.ndarray[Any, Any]) -> Detections:
        """See ``Detector.detect``."""
        boxes, labels, scores = self._run(image, [self._outputs.boxes, self._outputs.labels, self._outputs.scores])
        return _detections(boxes, labels, scores, self._display)

    def regions(self, image: np.ndarray[Any, Any]) -> Regions:
        """See ``Detector.regions``; a detection's region is the one whose probability of its label is its score."""
        import numpy as np

        names = self._cut[1]
        wanted = [self._outputs.boxes, self._outputs.labels, self._outputs.scores]
        given = self._run(image, [*wanted, names.boxes, names.logits, names.features])
        boxes, labels, scores, regions, logits, features = given
        detections = _detections(boxes, labels, scores, self._display)
        if len(detections.labels) and not 0 <= detections.labels.min() <= detections.labels.max() < logits.shape[1]:
            raise self._disagreement()
        likelihood = _softmax(logits)[:, detections.labels]
        same = np.abs(likelihood - detections.scores) < SAME_SCORE
        if not same.any(axis=0).all():
            raise self._disagreement()
        # Sure scores are all alike, so that the place decides. Pixels of features tell the scale, but for some padding.
        steps = np.array(image.shape[:0:-1]) * names.scale / np.array(features.shape[:1:-1])
        overlap = overlaps(regions * np.tile(steps, 2), detections.boxes)
        chosen = np.where(same, 1 + overlap, -np.abs(likelihood - detections.scores)).argmax(axis=0)
        return Regions(
            boxes=detections.boxes,
            labels=detections.labels,
            scores=detections.scores,
            regions=regions[chosen].astype(np.float32),
            logits=logits[chosen].astype(np.float32),
        )

    def differentiable(self, device: str, image: np.ndarray[Any, Any]) -> RegionLogits:
        """See ``Detector.differentiable``."""
        try:
            return self._as_torch(device, image)
        except NotAssessableError as error:
            raise NotDifferentiableError(str(error), remedy=error.remedy) from error

    def _as_torch(self, device: str, image: np.ndarray[Any, Any]) -> RegionLogits:
        import numpy as np
        import torch

        from .graph import region_program

        program = region_program(*self._cut, device=device)

        def logits(shown: torch.Tensor, regions: torch.Tensor) -> torch.Tensor:
            values = self.preprocessing.for_torch(shown[None])
            owners = torch.zeros(len(regions), dtype=torch.int64, device=regions.device)
            return program(values if self._batched else values[0], regions, owners)

        expected = self.regions(image)
        with torch.no_grad():
            shown, regions = (torch.from_numpy(part).to(device) for part in (image, expected.regions))
            found = logits(shown, regions).float().cpu().numpy()
        scale = max(1.0, float(np.abs(expected.logits).max(initial=0)))
        if found.shape != expected.logits.shape or np.abs(found - expected.logits).max(initial=0) > TOLERANCE * scale:
            raise NotAssessableError(
                f"The gradients of {self._display} cannot be trusted: its translation to torch differs from what ONNX "
                "Runtime computes. Export the model again with a current exporter."
            )
        return logits

    @cached_property
    def _cut(self) -> tuple[onnx.ModelProto, RegionNames]:
        import onnx

        from .graph import region_names

        content = embedded(self._content, self._external, self._display) if self._external else self._content
        model = onnx.ModelProto.FromString(content)
        return model, region_names(model, self._outputs.scores)

    @cached_property
    def _opened_inside(self) -> onnxruntime.InferenceSession:
        """A session that also gives what happens around the RoiAlign."""
        from .graph import with_outputs

        model, names = self._cut
        wider = with_outputs(model, (names.boxes, names.logits, names.features))
        return open_session(wider.SerializeToString(), self._display, {})

    def _run(self, image: np.ndarray[Any, Any], names: list[str]) -> list[np.ndarray[Any, Any]]:
        values = self.preprocessing.for_numpy(image[None])
        known = {node.name for node in self._session.get_outputs()}
        session = self._session if known.issuperset(names) else self._opened_inside
        try:
            found: list[np.ndarray[Any, Any]] = session.run(
                names, {self._input: values if self._batched else values[0]}
            )
        except Exception as error:  # ONNX Runtime raises many types, some of them not exported
            raise ModelError(
                f"{self._display} cannot be run on an image of shape {list(image.shape)}: {reason(error)} Check "
                "input_shape and layout, or export the model again."
            ) from error
        return found

    def _disagreement(self) -> NotAssessableError:
        return NotAssessableError(
            f"The scores of the object detector {self._display} are not the probabilities that it gives its regions, "
            "so that what changes a region's class says nothing about its detections."
        )


def overlaps(left: np.ndarray[Any, Any], right: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Intersection over union of boxes ``(n, 4)`` and ``(m, 4)``, float ``(n, m)``."""
    import numpy as np

    low = np.maximum(left[:, None, :2], right[None, :, :2])
    high = np.minimum(left[:, None, 2:], right[None, :, 2:])
    common = (high - low).clip(min=0).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).clip(min=0).prod(axis=1) for boxes in (left, right)]
    shared: np.ndarray[Any, Any] = common / np.maximum(areas[0][:, None] + areas[1][None] - common, 1e-9)
    return shared


def _detections(
    boxes: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], scores: np.ndarray[Any, Any], display: str
) -> Detections:
    import numpy as np

    if boxes.shape != (len(scores), 4) or labels.shape != scores.shape:
        raise ModelError(
            f"{display} gives boxes of shape {list(boxes.shape)}, labels of {list(labels.shape)} and scores of "
            f"{list(scores.shape)}, which are no detections on one image."
        )
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        raise ModelError(f"{display} gives detections that are not finite numbers; check its weights.")
    return Detections(boxes=boxes.astype(np.float32), labels=labels.astype(np.int64), scores=scores.astype(np.float32))


def _softmax(logits: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    import numpy as np

    powers = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
    probabilities: np.ndarray[Any, Any] = powers / powers.sum(axis=1, keepdims=True)
    return probabilities


def _image_form(
    node: onnxruntime.NodeArg, display: str, settings: ScanSettings
) -> tuple[Layout, int, tuple[int, int] | None]:
    """Layout, channels and, unless it is open, (height, width) of a detector's input."""
    sides, first = list(node.shape)[-3:], node.shape[0] if len(node.shape) == 4 else 1
    if len(node.shape) not in (3, 4) or (isinstance(first, int) and first != 1):
        raise ModelError(
            f"{display} takes an input of shape {list(node.shape)}; an object detector must take one image at a time "
            "to be audited. Export the model with a batch of one."
        )
    layout: Layout = settings.layout or ("NHWC" if sides[2] in (1, 3, 4) and sides[0] not in (1, 3, 4) else "NCHW")
    channels, height, width = sides if layout == "NCHW" else (sides[2], sides[0], sides[1])
    if settings.input_shape:
        channels, height, width = settings.input_shape
    if not isinstance(channels, int):
        channels = 3
    fixed = isinstance(height, int) and isinstance(width, int)
    return layout, channels, (height, width) if fixed else None
