"""ONNX models through ONNX Runtime, opened from bytes that were read once."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from ..errors import ModelError, NotAssessableError, NotDifferentiableError
from ..settings import Layout, ScanSettings
from ._classifier import (
    BATCH,
    as_features,
    as_logits,
    class_scores,
    is_softmax,
    probe_images,
    require_class_names,
    smallest_probability,
)
from ._embedding import embedded
from ._graph_range import range_in_graph
from ._onnx_features import open_with_features
from ._onnx_session import ELEMENT_TYPES, only_input, open_session, reason
from ._preprocessing import Preprocessing, declares_range, make_preprocessing

if TYPE_CHECKING:
    import numpy as np
    import onnxruntime
    import torch

# By how much of the largest logit the torch program may differ. Half precision rounds each operator's result. In a
# quantised graph a value half-way between two integers goes up here and down there: one step of 1/255 of its range,
# which later layers carry on.
TOLERANCE, COARSE_TOLERANCE = 2e-3, 0.05
OUTPUT_TYPES = ("tensor(float)", "tensor(float16)", "tensor(double)")


class OnnxClassifier:
    """An ONNX image classifier; see ``Classifier``.

    ``content`` is the file's bytes, ``external`` those of its external data by location; nothing else is opened. Both
    were inspected. ``session``: the same model, if it is open already. Raises ModelError if ONNX Runtime refuses the
    model or if it is not an image classifier with one input and one output of class scores.
    """

    thread_safe = True

    def __init__(
        self,
        content: bytes,
        display: str,
        settings: ScanSettings,
        *,
        external: Mapping[str, bytes] | None = None,
        session: onnxruntime.InferenceSession | None = None,
    ) -> None:
        self._content = content
        self._external = external or {}
        self._display = display
        self._session = session or open_session(content, display, self._external)
        # Copies with another preprocessing share what is kept: the cut model, once it is asked for, and these.
        self._cut: list[tuple[onnxruntime.InferenceSession, str]] = []
        self._programs: dict[tuple[str, Preprocessing], Callable[[torch.Tensor], torch.Tensor]] = {}
        node = only_input(self._session, display)
        layout, self.input_shape = _image_shape(node, display, settings)
        self._fixed_batch = node.shape[0] if isinstance(node.shape[0], int) and node.shape[0] > 0 else None
        self._input = node.name
        self.preprocessing: Preprocessing = make_preprocessing(
            settings, layout=layout, channels=self.input_shape[0], dtype=ELEMENT_TYPES[node.type], path=display
        )
        found = None if self.preprocessing.integer or declares_range(settings) else range_in_graph(content, node.name)
        self.range_in_graph = found is not None
        if found is not None:
            self.preprocessing = replace(self.preprocessing, low=found[0], high=found[1])
        self.layout_open = settings.layout is None and _fits_both_layouts(node, self.input_shape)
        self._output = _class_output(self._session, display)
        outputs = self._outputs(probe_images(self.input_shape))
        self.classes = int(outputs.shape[1])
        self._softmax = is_softmax(outputs)
        as_logits(outputs, softmax=self._softmax, path=display)
        require_class_names(settings, self.classes, display)

    def logits(self, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """See ``Classifier.logits``."""
        return as_logits(self._outputs(images), softmax=self._softmax, path=self._display)

    def features(self, images: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """See ``Classifier.features``."""
        import numpy as np

        if not self._cut:
            self._cut.append(open_with_features(self._content, self._external, self._display, self._output))
        session, name = self._cut[0]
        features, rows = [], []
        for batch, count in self._batches(images):
            taken, scores = self._run(session, [name, self._output], batch)
            features.append(as_features(taken, len(batch), self._display)[:count])
            rows.append(self._scores(scores, len(batch))[:count])
        logits = as_logits(np.concatenate(rows), softmax=self._softmax, path=self._display)
        return np.concatenate(features), logits

    def with_preprocessing(self, preprocessing: Preprocessing) -> Self:
        """See ``OpenedModel.with_preprocessing``."""
        other = copy.copy(self)
        other.preprocessing = preprocessing
        return other

    def differentiable(self, device: str) -> Callable[[torch.Tensor], torch.Tensor]:
        """See ``Classifier.differentiable``; the ONNX graph becomes a torch program and is compared with this one."""
        # Several checks ask for it.
        key = device, self.preprocessing
        if key not in self._programs:
            try:
                self._programs[key] = self._as_torch(device)
            except NotAssessableError as error:
                raise NotDifferentiableError(str(error), remedy=error.remedy) from error
        return self._programs[key]

    def _as_torch(self, device: str) -> Callable[[torch.Tensor], torch.Tensor]:
        import onnx

        from .graph import is_quantised, torch_program

        content = embedded(self._content, self._external, self._display) if self._external else self._content
        model = onnx.ModelProto.FromString(content)
        program = torch_program(model, device=device)
        preprocessing = self.preprocessing

        def outputs(images: torch.Tensor) -> torch.Tensor:
            return program(preprocessing.for_torch(images)).flatten(1)

        def logits(images: torch.Tensor) -> torch.Tensor:
            return outputs(images).clamp(min=smallest_probability("float32")).log()

        # The program leaves out a final softmax, but one that other operators follow stays.
        forward = logits if self._softmax and _gives_softmax(outputs, self.input_shape, device) else outputs
        coarse = is_quantised(model) or self.preprocessing.dtype == "float16"
        self._compare(forward, device, tolerance=COARSE_TOLERANCE if coarse else TOLERANCE)
        return forward

    def _outputs(self, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        import numpy as np

        rows = [
            self._scores(self._run(self._session, [self._output], batch)[0], len(batch))[:count]
            for batch, count in self._batches(images)
        ]
        return rows[0] if len(rows) == 1 else np.concatenate(rows)

    def _batches(self, images: np.ndarray[Any, Any]) -> Iterator[tuple[np.ndarray[Any, Any], int]]:
        """Inputs of the size that the model takes, and how many images of each are wanted."""
        import numpy as np

        values = self.preprocessing.for_numpy(images)
        size = self._fixed_batch or min(BATCH, len(values))
        for start in range(0, len(values), size):
            batch = values[start : start + size]
            padding = size - len(batch)
            if padding:
                batch = np.concatenate([batch, np.repeat(batch[-1:], padding, axis=0)])
            yield batch, size - padding

    def _run(
        self, session: onnxruntime.InferenceSession, names: list[str], batch: np.ndarray[Any, Any]
    ) -> list[np.ndarray[Any, Any]]:
        import numpy as np

        try:
            outputs = session.run(names, {self._input: batch})
        except Exception as error:  # ONNX Runtime raises many types, some of them not exported
            raise ModelError(
                f"{self._display} cannot be run on {len(batch)} image(s): {reason(error)} Check input_shape and "
                "layout, or export the model again."
            ) from error
        return [np.asarray(output) for output in outputs]

    def _scores(self, values: np.ndarray[Any, Any], images: int) -> np.ndarray[Any, Any]:
        scores: np.ndarray[Any, Any] | None = class_scores(values, images)
        if scores is None:
            raise ModelError(
                f"{self._display} gives an output of shape {list(values.shape)} for {images} image(s), which is "
                "not one score for each of two or more classes; only image classifiers can be audited."
            )
        return scores

    def _compare(self, forward: Callable[[torch.Tensor], torch.Tensor], device: str, *, tolerance: float) -> None:
        import numpy as np
        import torch

        probe = np.random.default_rng(1).random((4, *self.input_shape), dtype=np.float32)
        expected = self.logits(probe)
        with torch.no_grad():
            found = forward(torch.from_numpy(probe).to(device)).float().cpu().numpy()
        if found.shape == expected.shape:
            found = as_logits(found, softmax=False, path=self._display)
            # Softmax outputs hide differences that are far below the largest logit.
            scale = max(1.0, float(np.abs(expected).max()))
            visible = expected > expected.max(axis=1, keepdims=True) - 12
            if (
                np.abs(found - found.max(axis=1, keepdims=True) - expected + expected.max(axis=1, keepdims=True))[
                    visible
                ].max()
                <= tolerance * scale
            ):
                return
        raise NotAssessableError(
            f"The gradients of {self._display} cannot be trusted: its translation to torch differs from what ONNX "
            "Runtime computes. Export the model again with a current exporter, or scan its torch state dict."
        )


def _gives_softmax(
    outputs: Callable[[torch.Tensor], torch.Tensor], input_shape: tuple[int, int, int], device: str
) -> bool:
    import torch

    with torch.no_grad():
        return is_softmax(outputs(torch.from_numpy(probe_images(input_shape)).to(device)).float().cpu().numpy())


def _image_shape(
    node: onnxruntime.NodeArg, display: str, settings: ScanSettings
) -> tuple[Layout, tuple[int, int, int]]:
    shape = list(node.shape)
    if len(shape) != 4:
        raise ModelError(
            f"{display} takes an input of shape {shape}; an image input has four dimensions (batch, channels, height, "
            "width). Only image classifiers can be audited."
        )
    layout: Layout = settings.layout or ("NHWC" if shape[3] in (1, 3, 4) and shape[1] not in (1, 3, 4) else "NCHW")
    sizes = shape[1:] if layout == "NCHW" else [shape[3], shape[1], shape[2]]
    if settings.input_shape:
        if any(isinstance(size, int) and size != want for size, want in zip(sizes, settings.input_shape, strict=True)):
            raise ModelError(
                f"{display} takes images of shape {sizes}, not {list(settings.input_shape)}; correct its input_shape "
                "or layout."
            )
        return layout, settings.input_shape
    if not all(isinstance(size, int) and size > 0 for size in sizes):
        raise ModelError(
            f"{display} leaves the size of its images open ({shape}); set input_shape = [channels, height, width] "
            "for this model in pyproject.toml."
        )
    return layout, (sizes[0], sizes[1], sizes[2])


def _fits_both_layouts(node: onnxruntime.NodeArg, input_shape: tuple[int, int, int]) -> bool:
    channels, height, width = input_shape
    return all(
        not isinstance(size, int) or size == want
        for sizes in ((channels, height, width), (height, width, channels))
        for size, want in zip(node.shape[1:], sizes, strict=True)
    )


def _class_output(session: onnxruntime.InferenceSession, display: str) -> str:
    outputs = [node for node in session.get_outputs() if node.type in OUTPUT_TYPES]
    if len(outputs) != 1:
        names = ", ".join(node.name for node in session.get_outputs()) or "none"
        raise ModelError(
            f"{display} has {len(outputs)} floating-point outputs (of {names}); only models with one output of class "
            "scores can be audited. Export the model with that output alone."
        )
    return str(outputs[0].name)
