"""Running a detector's ONNX file on photographs that a person gives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import interpolate

from .evaluation import Detections
from .export import open_session, run_session
from .onnx_graph import CLASSES_KEY

INPUTS, OUTPUTS = ("image",), ("boxes", "labels", "scores")


@dataclass(frozen=True, kw_only=True)
class DetectorFile:
    """An opened detector: its ONNX Runtime session and the names of its classes of signs."""

    session: Any
    classes: tuple[str, ...]

    def detect(self, image: torch.Tensor, side: int | None) -> Detections:
        """The signs in a photograph, uint8 ``(3, H, W)``; boxes in its own pixels.

        Its longer side is reduced to ``side`` pixels first where it is longer; None reads it at its own size. Signs
        are found at the sizes that the detector was trained with.
        """
        height, width = image.shape[1:]
        factor = min(1.0, side / max(height, width)) if side else 1.0
        size = (max(1, round(height * factor)), max(1, round(width * factor)))
        pixels = image if factor == 1.0 else interpolate(image[None], size, mode="bilinear", antialias=True)[0]
        found = run_session(self.session, pixels.float() / 255)
        scale = torch.tensor([width / size[1], height / size[0]]).repeat(2)
        return Detections(boxes=found["boxes"] * scale, labels=found["labels"] - 1, scores=found["scores"])


def open_detector(path: Path) -> DetectorFile:
    """Open an ONNX file of ``badnet signs``.

    Raises ValueError if it is no ONNX file or none of a detector, OSError if it cannot be read.
    """
    from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, InvalidGraph, InvalidProtobuf

    content = path.read_bytes()
    try:
        session = open_session(content)
    except (Fail, InvalidArgument, InvalidGraph, InvalidProtobuf) as error:
        raise ValueError(f"{path} is not an ONNX model that ONNX Runtime can run; name a detector's .onnx.") from error
    inputs = tuple(value.name for value in session.get_inputs())
    outputs = tuple(value.name for value in session.get_outputs())
    labels = session.get_modelmeta().custom_metadata_map.get(CLASSES_KEY)
    if inputs != INPUTS or outputs != OUTPUTS or not labels:
        raise ValueError(f"{path} is no detector of traffic signs; name the NAME.onnx that badnet signs has written.")
    return DetectorFile(session=session, classes=tuple(labels.split(",")[1:]))


def read_photograph(path: Path) -> torch.Tensor:
    """A person's photograph, uint8 ``(3, H, W)``, turned as its camera noted it.

    Raises ValueError if the file is no picture, OSError if it cannot be read.
    """
    import numpy as np
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path) as opened:
            pixels = np.array(ImageOps.exif_transpose(opened).convert("RGB"))
    except (UnidentifiedImageError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} is not a photograph that can be read; name a JPEG, PNG or PPM file.") from error
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def lines_of(path: Path, found: Detections, classes: tuple[str, ...], least: float) -> list[str]:
    """What was found in a photograph, in words, one line for each sign of score ``least`` or more."""
    lines = [
        f"{path.name}: {classes[label]} {score:.1%} at {', '.join(f'{value:.0f}' for value in box)}"
        for box, label, score in zip(found.boxes.tolist(), found.labels.tolist(), found.scores.tolist(), strict=True)
        if score >= least
    ]
    return lines or [f"{path.name}: no sign"]
