"""Opening models safely, running them and differentiating them, behind one ``Classifier`` interface."""

from __future__ import annotations

from ._classifier import Classifier
from ._detector import Detections, Detector, RegionLogits, Regions
from ._image_sources import ImageSource, open_images
from ._inference import FEWEST_SAMPLES
from ._onnx_detector import overlaps
from ._photographs import load_photographs
from ._samples import Samples, load_samples
from ._subject import MODEL_SUFFIXES, Subject
from ._torch import TorchClassifier
from ._trial import LOWEST_ACCURACY

__all__ = [
    "FEWEST_SAMPLES",
    "LOWEST_ACCURACY",
    "MODEL_SUFFIXES",
    "Classifier",
    "Detections",
    "Detector",
    "ImageSource",
    "RegionLogits",
    "Regions",
    "Samples",
    "Subject",
    "TorchClassifier",
    "load_photographs",
    "load_samples",
    "open_images",
    "overlaps",
]
