"""Opening models safely, running them and differentiating them, behind one ``Classifier`` interface."""

from __future__ import annotations

from ._classifier import Classifier
from ._samples import Samples, load_samples
from ._subject import MODEL_SUFFIXES, Subject
from ._torch import TorchClassifier

__all__ = ["MODEL_SUFFIXES", "Classifier", "Samples", "Subject", "TorchClassifier", "load_samples"]
