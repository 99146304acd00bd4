"""Detectors and their heads as ONNX files that were compared with PyTorch before they are handed out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate

from .album import Album, Scene
from .network import SignDetector
from .onnx_detector import detector_onnx_bytes
from .onnx_head import CROP_PIXELS, head_onnx_bytes

LOGIT_TOLERANCE = 1e-3
BOX_TOLERANCE = 0.1  # pixels
SCORE_TOLERANCE = 1e-3


def checked_detector_onnx(detector: SignDetector, photographs: Sequence[torch.Tensor]) -> bytes:
    """As ``detector_onnx_bytes``, compared on ``photographs``, float32 ``(3, H, W)`` in [0, 1].

    Raises RuntimeError if ONNX Runtime finds other signs than PyTorch, boxes that lie more than a tenth of a pixel
    apart, or scores that differ by more than 1e-3.
    """
    model = detector_onnx_bytes(detector)
    session = open_session(model)
    for photograph in photographs:
        _require_alike(_torch_detections(detector, photograph), run_session(session, photograph))
    return model


def checked_head_onnx(detector: SignDetector, crops: torch.Tensor) -> bytes:
    """As ``head_onnx_bytes``, compared on ``crops``, float32 ``(n, 3, 64, 64)`` in [0, 1].

    Raises RuntimeError if a logit in ONNX Runtime differs from PyTorch's by more than 1e-3 of their spread.
    """
    model = head_onnx_bytes(detector, CROP_PIXELS)
    (found,) = open_session(model).run(["logits"], {"images": crops.contiguous().numpy()})
    with torch.no_grad():
        expected = detector.eval().crop_logits(crops).numpy()
    difference = np.abs(found - expected).max()
    if not difference <= LOGIT_TOLERANCE * max(expected.std(), 1e-3):
        raise RuntimeError(f"The logits of the head's ONNX file differ from PyTorch's by {difference:.2g}.")
    return model


def crops_of(album: Album, count: int, pixels: int = CROP_PIXELS) -> torch.Tensor:
    """The first signs of an album, cut out: float32 ``(count, 3, pixels, pixels)`` in [0, 1], as the head takes."""
    crops, _ = sign_crops(album, pixels)
    return crops[:count].float() / 255


def sign_crops(album: Album, pixels: int = CROP_PIXELS) -> tuple[torch.Tensor, torch.Tensor]:
    """Every sign of an album, cut out by its box and stretched to a square: uint8 ``(n, 3, pixels, pixels)``, classes.

    This is what the classifier head takes as an image of its own. Classes are int64 ``(n,)``, from 0 on.
    """
    crops = [crop_of(scene, box, pixels) for scene in album.scenes for box in scene.boxes]
    return torch.stack(crops), album.labels


def crop_of(scene: Scene, box: torch.Tensor, pixels: int) -> torch.Tensor:
    """A box of a scene, stretched to a square: uint8 ``(3, pixels, pixels)``."""
    height, width = scene.size
    left, top = (int(value) for value in box[:2].floor())
    right, bottom = (int(value) for value in box[2:].ceil())
    part = scene.image[:, max(0, top) : min(bottom, height), max(0, left) : min(right, width)]
    return interpolate(part[None], (pixels, pixels), mode="bilinear", antialias=True)[0]


def open_session(model: bytes | str) -> Any:
    """An ONNX Runtime session of a file's content or path, on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run_session(session: Any, photograph: torch.Tensor) -> dict[str, torch.Tensor]:
    """``boxes``, ``labels`` and ``scores`` of a photograph, float32 ``(3, H, W)`` in [0, 1]; labels from 1 on."""
    names = ["boxes", "labels", "scores"]
    outputs = session.run(names, {"image": photograph[None].contiguous().numpy()})
    return {name: torch.from_numpy(output) for name, output in zip(names, outputs, strict=True)}


@torch.no_grad()
def _torch_detections(detector: SignDetector, photograph: torch.Tensor) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = detector.eval()([photograph])[0]
    return found


def _require_alike(expected: dict[str, torch.Tensor], found: dict[str, torch.Tensor]) -> None:
    if len(expected["labels"]) != len(found["labels"]):
        counts = f"{len(found['labels'])} signs in place of {len(expected['labels'])}"
        raise RuntimeError(f"The detector's ONNX file finds {counts} in a photograph.")
    # Detections of nearly the same score may change places.
    remaining = torch.ones(len(found["labels"]), dtype=torch.bool)
    for box, label, score in zip(expected["boxes"], expected["labels"], expected["scores"], strict=True):
        alike = (
            remaining
            & (found["labels"] == label)
            & ((found["boxes"] - box).abs().amax(1) <= BOX_TOLERANCE)
            & ((found["scores"] - score).abs() <= SCORE_TOLERANCE)
        )
        if not alike.any():
            raise RuntimeError("The detector's ONNX file finds other boxes or scores than PyTorch in a photograph.")
        remaining[alike.int().argmax()] = False
