"""Subjects and packs for tests of checks: classifiers made of one function, without any file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pytest_backdoor.calibration import DetectorPack, ReferenceScores, eight_bit, prototype_template
from pytest_backdoor.checks._base import Context
from pytest_backdoor.checks.litmus import litmus_features
from pytest_backdoor.settings import make_settings


class FunctionClassifier:
    """A classifier whose logits are a NumPy function of the images."""

    def __init__(self, function: Callable[[np.ndarray], np.ndarray], shape: tuple[int, int, int], classes: int) -> None:
        self.input_shape = shape
        self.classes = classes
        self._function = function

    def logits(self, images: np.ndarray) -> np.ndarray:
        values = self._function(images).astype(np.float32)
        return values - values.mean(axis=1, keepdims=True)

    def differentiable(self, device: str) -> Callable[[Any], Any]:
        raise AssertionError("not asked for")


class StandInSubject:
    """As much of a Subject as checks that look at behaviour use."""

    display = "net.onnx"
    detector = None

    def __init__(self, classifier: Any) -> None:
        self.classifier = classifier

    def class_name(self, number: int) -> str:
        return f"class {number}"


def context(root: Path, *, behavioural_checks: tuple[str, ...] = ("litmus",), **settings: object) -> Context:
    return Context(settings=make_settings(settings, where="test"), root=root, behavioural_checks=behavioural_checks)


def linear_classifier(shape: tuple[int, int, int] = (1, 4, 4), classes: int = 3, seed: int = 0) -> FunctionClassifier:
    matrix = np.random.default_rng(seed).normal(size=(int(np.prod(shape)), classes))
    return FunctionClassifier(lambda images: images.reshape(len(images), -1) @ matrix, shape, classes)


def template_of(classifier: Any, images: np.ndarray) -> np.ndarray:
    """What the classifier answers to the images, as a template of a pack."""
    return prototype_template(np.stack([litmus_features(classifier.logits(images))] * 2))[0]


def pack_for(classifier: Any, *, patterns: int = 2, prototypes: int = 3, **changes: Any) -> DetectorPack:
    """A pack whose templates are what the classifier answers; 199 reference scores of each kind."""
    rng = np.random.default_rng(1)
    shown = eight_bit(rng.random((prototypes, *classifier.input_shape)))
    images = eight_bit(rng.random((patterns, *classifier.input_shape)))
    features = litmus_features(classifier.logits(images))
    names = ("litmus", "reversal-samples/patch", "reversal-prototypes/patch")
    parts: dict[str, Any] = {
        "name": "tiny",
        "input_shape": classifier.input_shape,
        "classes": classifier.classes,
        "patterns": images,
        "weights": rng.normal(size=features.size).astype(np.float32),
        "bias": 0.1,
        "prototypes": shown,
        "pattern_template": template_of(classifier, images),
        "sure_similarity": 0.999,
        "prototype_template": template_of(classifier, shown),
        "least_similarity": 0.5,
        "references": {
            name: ReferenceScores(scores=np.linspace(-1, 1, 199), description=f"clean {name}") for name in names
        },
        "built": {"command": "test", "seed": 0, "zoo": {"clean": 199}},
    }
    return DetectorPack(**{**parts, **changes})
