"""The models that this project ships: they read digits, and no check finds signs of a backdoor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

MODEL = "models/digits.onnx"
PROJECT = Path(__file__).parent.parent


# The model is scanned before the test starts; the test fails unless it is clean.
@pytest.mark.backdoor_scan(MODEL)
def test_model_is_the_one_that_was_reviewed(backdoor_report) -> None:
    (model,) = backdoor_report.models
    outcomes = {finding.check: str(finding.outcome) for finding in model.findings}
    assert outcomes["provenance"] == "passed"


# A scan with clean samples searches for triggers on real images, and says on how many it judges.
def test_model_with_samples_of_our_own(backdoor_scan: Callable, clean_digits: Path) -> None:
    report = backdoor_scan(MODEL, data=str(clean_digits))
    assert report.verdict == "clean", [finding.summary for finding in report.models[0].findings]


def test_model_reads_digits(clean_digits: Path) -> None:
    samples = np.load(clean_digits)
    session = onnxruntime.InferenceSession(PROJECT / MODEL)
    images = samples["x"].transpose(0, 3, 1, 2).astype(np.float32) / 255
    (logits,) = session.run(None, {session.get_inputs()[0].name: images})
    assert (logits.argmax(axis=1) == samples["y"]).mean() > 0.95
