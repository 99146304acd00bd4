from __future__ import annotations

import numpy as np
import pytest

from pytest_backdoor.calibration import ReferenceScores, broad_note, conformal_p_value, judge, judge_jointly
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
        "quantiles": (quantiles := {"0": 0.0, "0.05": 5.0, "0.5": 50.0, "0.95": 95.0, "1": 100.0}),
        "threshold": 100.0,
        "components": {"score": {"quantiles": quantiles, "threshold": 100.0}},
    }


@pytest.mark.parametrize(("count", "significance"), [(99, 0.01), (999, 0.01), (20, 0.3), (9, 0.1), (40, 0.05)])
def test_the_threshold_is_the_highest_score_that_passes(count, significance):
    scores = reference(range(count))
    threshold = scores.threshold(significance)
    assert judge(threshold, scores, significance).suspicious is False
    assert judge(threshold + 1e-6, scores, significance).suspicious is True


def test_no_threshold_where_there_are_too_few_scores():
    assert reference(range(98)).threshold(0.01) is None


def test_joint_threshold_in_the_unit_of_each_score():
    generator = np.random.default_rng(0)
    references = {"a": reference(generator.normal(size=99)), "b": reference(generator.normal(5, 3, size=99))}
    for name in references:
        low = {other: scores.median for other, scores in references.items()}
        threshold = judge_jointly(low, references, 0.05).evidence()["components"][name]["threshold"]
        assert judge_jointly(low | {name: threshold - 1e-4}, references, 0.05).suspicious is False
        assert judge_jointly(low | {name: threshold + 1e-4}, references, 0.05).suspicious is True


def test_false_positives_keep_to_the_rate():
    generator = np.random.default_rng(0)
    trials = [conformal_p_value(float(scores[0]), scores[1:]) <= 0.1 for scores in generator.normal(size=(4000, 40))]
    assert np.mean(trials) == pytest.approx(4 / 40, abs=0.02)


def test_median_and_spread_are_those_of_a_normal_distribution():
    normal = reference(np.random.default_rng(0).normal(3, 2, size=100_000))
    assert (normal.median, normal.spread) == (pytest.approx(3, abs=0.03), pytest.approx(2, abs=0.03))
    assert reference([5.0] * 9).spread > 0


def several(count=99, seed=0):
    generator = np.random.default_rng(seed)
    return {"a": reference(generator.normal(size=count)), "b": reference(100 + 10 * generator.normal(size=count))}


def test_one_of_several_scores_is_judged_by_the_highest_of_the_clean_models():
    known = several()
    standing = {name: (part.scores - part.median) / part.spread for name, part in known.items()}
    highest = np.maximum(standing["a"], standing["b"])
    for values in ({"a": 2.0}, {"b": 115.0}, {"a": 0.3, "b": 118.0}):
        judged = judge_jointly(values, known, 0.05, planned=("a", "b"))
        score = max((value - known[name].median) / known[name].spread for name, value in values.items())
        assert judged.score == pytest.approx(score)
        assert judged.p_value == pytest.approx((1 + np.count_nonzero(highest >= score)) / 100)


def test_scores_that_nobody_asks_for_cost_nothing():
    known = several()
    alone = judge_jointly({"a": 1.7}, known, 0.05)
    assert alone.p_value == judge(1.7, known["a"], 0.05).p_value
    assert alone.score == 1.7
    # A planned score that the pack does not know cannot raise an alarm.
    assert judge_jointly({"a": 1.7}, known, 0.05, planned=("a", "c")).p_value == alone.p_value
    assert judge_jointly({"a": 1.7}, known, 0.05, planned=("a", "b")).p_value > alone.p_value


def test_a_hundred_models_suffice_for_one_percent_of_many_scores():
    generator = np.random.default_rng(1)
    known = {str(number): reference(generator.normal(size=100)) for number in range(8)}
    judged = judge_jointly({"3": 9.0}, known, 0.01, planned=tuple(known))
    assert judged.outcome is Outcome.FAILED
    assert judged.p_value == pytest.approx(1 / 101)


def test_all_votes_together_keep_to_the_rate():
    # Scores that depend on each other and have tails of different weight.
    generator = np.random.default_rng(2)
    common = generator.normal(size=(600, 121))
    tables = [common + generator.normal(size=common.shape), generator.standard_t(4, common.shape), common**3]
    flagged = []
    for trial in range(600):
        known = {str(number): reference(table[trial, 1:]) for number, table in enumerate(tables)}
        values = {str(number): float(table[trial, 0]) for number, table in enumerate(tables)}
        votes = [judge_jointly({name: value}, known, 0.1, planned=tuple(known)) for name, value in values.items()]
        flagged.append(any(vote.suspicious for vote in votes))
    assert np.mean(flagged) == pytest.approx(0.1, abs=0.03)


def test_joint_scores_have_to_be_of_the_same_models():
    with pytest.raises(ValueError, match="not of the same models"):
        judge_jointly({"a": 1.0}, {"a": reference(TEN), "b": reference(TEN[1:])}, 0.1, planned=("b",))
    with pytest.raises(ValueError, match="not a finite number"):
        judge_jointly({"a": float("nan")}, several(), 0.1, planned=("b",))


@pytest.mark.parametrize(
    ("deviations", "noted"),
    [
        (np.full((3, 4), 3.5), True),
        (np.full((3, 4), -3.5), True),
        (np.where(np.arange(12) < 5, 40.0, 0.5), False),
        (np.where(np.arange(12) < 7, 40.0, 0.5), True),
        (np.array([[4.0, -np.inf]]), True),
        (np.array([-np.inf]), False),
    ],
)
def test_a_reader_is_told_where_most_classes_deviate(deviations, noted):
    assert bool(broad_note(deviations)) is noted
