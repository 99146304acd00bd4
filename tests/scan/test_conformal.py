from __future__ import annotations

import numpy as np
import pytest

from pytest_backdoor.calibration import ReferenceScores, conformal_p_value, judge
from pytest_backdoor.findings import Outcome

TEN = np.arange(10.0)


def reference(scores):
    return ReferenceScores(scores=np.asarray(scores, float), description="made up")


@pytest.mark.parametrize(
    ("score", "clean", "p_value"),
    [
        (10.0, TEN, 1 / 11),  # above all
        (9.0, TEN, 2 / 11),  # a tie counts as reaching the score
        (8.5, TEN, 2 / 11),
        (5.0, TEN, 6 / 11),
        (0.0, TEN, 1.0),
        (-1.0, TEN, 1.0),
        (3.0, np.full(4, 3.0), 1.0),
        (1.0, np.array([]), 1.0),
    ],
)
def test_p_value(score, clean, p_value):
    assert conformal_p_value(score, clean) == pytest.approx(p_value, abs=1e-15)


def test_order_of_the_reference_is_irrelevant():
    assert conformal_p_value(4.0, TEN[::-1]) == conformal_p_value(4.0, TEN) == 7 / 11


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_not_finite(bad):
    with pytest.raises(ValueError, match="not a finite number"):
        conformal_p_value(bad, TEN)
    with pytest.raises(ValueError, match="not a finite number"):
        conformal_p_value(1.0, np.array([0.0, bad]))
    with pytest.raises(ValueError, match="not a finite number"):
        judge(bad, reference(TEN), 0.5)


@pytest.mark.parametrize(
    ("score", "count", "significance", "outcome"),
    [
        (100.0, 99, 0.01, Outcome.FAILED),  # p = 1/100, at the limit
        (100.0, 98, 0.01, Outcome.NOT_ASSESSED),  # p cannot get below 1/99
        (1000.0, 199, 0.005, Outcome.FAILED),
        (1000.0, 198, 0.005, Outcome.NOT_ASSESSED),
        (98.0, 99, 0.01, Outcome.PASSED),  # ties with the highest: p = 2/100
        (98.0, 99, 0.02, Outcome.FAILED),
        (97.5, 99, 0.02, Outcome.FAILED),
        (97.0, 99, 0.02, Outcome.PASSED),
        (-5.0, 99, 0.01, Outcome.PASSED),
        (-5.0, 0, 0.5, Outcome.NOT_ASSESSED),
    ],
)
def test_judgement(score, count, significance, outcome):
    judgement = judge(score, reference(range(count)), significance)
    assert judgement.outcome is outcome
    assert judgement.suspicious is {Outcome.FAILED: True, Outcome.PASSED: False}.get(outcome)


def test_no_reference():
    judgement = judge(1.0, None, 0.01)
    assert (judgement.outcome, judgement.p_value, judgement.suspicious) == (Outcome.NOT_ASSESSED, None, None)
    assert judgement.evidence() is None
    assert "reference scores" in judgement.explanation
    assert "pack" in judgement.remedy


def test_small_reference_says_how_many_are_needed():
    judgement = judge(1.0, reference(range(50)), 0.005)
    assert "50 clean reference models cannot support a false-positive rate of 0.005" in judgement.explanation
    assert "at least 199 clean reference models" in judgement.remedy
    assert judgement.p_value == 50 / 51


def test_explanation_counts_the_models_above():
    assert judge(96.0, reference(range(99)), 0.01).explanation.startswith(
        "3 of 99 clean reference models score as high"
    )


def test_evidence():
    evidence = judge(3.0, reference(range(101)), 0.01).evidence()
    assert evidence == {
        "description": "made up",
        "models": 101,
        "significance": 0.01,
        "quantiles": {"0": 0.0, "0.05": 5.0, "0.5": 50.0, "0.95": 95.0, "1": 100.0},
    }


def test_false_positives_keep_to_the_rate():
    generator = np.random.default_rng(0)
    trials = [conformal_p_value(float(scores[0]), scores[1:]) <= 0.1 for scores in generator.normal(size=(4000, 40))]
    assert np.mean(trials) == pytest.approx(4 / 40, abs=0.02)
