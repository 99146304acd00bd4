"""The model that this project ships: it reads digits, and no check finds signs of a backdoor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from pytest_backdoor import ScanReport

MODEL = "models/digits.onnx"
PROJECT = Path(__file__).parent.parent


@pytest.mark.backdoor_scan(MODEL)
def test_model_is_the_one_that_was_reviewed(backdoor_report: ScanReport) -> None:
    """The model is scanned before the test starts, which fails unless the model is clean."""
    (model,) = backdoor_report.models
    outcomes = {finding.check: finding.outcome for finding in model.findings}
    assert outcomes["provenance"] == "passed"


def test_model_with_samples_of_our_own(backdoor_scan: Callable[..., ScanReport], clean_digits: Path) -> None:
    """With clean samples, triggers are sought on real images."""
    report = backdoor_scan(MODEL, data=str(clean_digits))
    assert report.verdict == "clean", [finding.summary for finding in report.models[0].findings]


def test_model_reads_digits(clean_digits: Path) -> None:
    """No scan: what any project would test."""
    samples = np.load(clean_digits)
    session = onnxruntime.InferenceSession(PROJECT / MODEL)
    images = samples["x"].transpose(0, 3, 1, 2).astype(np.float32) / 255
    (logits,) = session.run(None, {session.get_inputs()[0].name: images})
    assert (logits.argmax(axis=1) == samples["y"]).mean() > 0.95
