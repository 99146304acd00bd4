from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from pytest_backdoor.checks.training_data._exchangeability import DEPTHS, compare, log_p_value


def simulated(above, training, clean, depth, *, rounds=20_000):
    """The share of random orders in which so many training images come before a clean sample."""
    order = np.random.default_rng(0).random((rounds, training + clean)).argsort(axis=1)
    is_clean = order >= training
    position = (is_clean.cumsum(axis=1) == depth).argmax(axis=1)
    return float((position - (depth - 1) >= above).mean())


@pytest.mark.parametrize(
    ("above", "training", "clean", "depth"),
    [(1, 5, 3, 1), (4, 9, 2, 1), (3, 30, 10, 1), (6, 30, 10, 2), (20, 40, 12, 4), (0, 7, 3, 2), (9, 9, 4, 4)],
)
def test_the_p_value_is_that_of_random_orders(above, training, clean, depth):
    expected = simulated(above, training, clean, depth)
    tolerance = 4 * math.sqrt(expected * (1 - expected) / 20_000) + 1e-4
    assert math.exp(log_p_value(above, training, clean, depth=depth)) == pytest.approx(expected, abs=tolerance)


@pytest.mark.parametrize(("training", "clean", "depth"), [(6, 4, 1), (6, 4, 3), (20, 7, 4), (3, 3, 3)])
def test_the_probabilities_of_all_numbers_add_up(training, clean, depth):
    tails = [math.exp(log_p_value(above, training, clean, depth=depth)) for above in range(training + 1)]
    assert tails[0] == 1
    assert all(one >= other for one, other in pairwise(tails))
    # The mean of the negative hypergeometric distribution.
    assert sum(tails[1:]) == pytest.approx(depth * training / (clean + 1))


def test_the_first_case_is_what_can_be_counted_by_hand():
    assert math.exp(log_p_value(2, 2, 1, depth=1)) == pytest.approx(1 / 3)
    assert log_p_value(6000, 6000, 1000, depth=1) < -2000, "where the p-value itself underflows"


@pytest.mark.parametrize("numbers", [(6, 5, 3, 1), (-1, 5, 3, 1), (1, 5, 3, 4), (1, 5, 3, 0)])
def test_numbers_that_cannot_be(numbers):
    with pytest.raises(ValueError, match="cannot be"):
        log_p_value(*numbers[:3], depth=numbers[3])


def exchangeable(rng, *, ties):
    labels = rng.integers(0, 3, 400)
    values = rng.standard_cauchy(400)
    return {"a": np.round(values) if ties else values, "b": rng.random(400)}, labels, rng.random(400) < 0.3


@pytest.mark.parametrize("ties", [False, True])
def test_exchangeable_scores_are_rejected_no_more_often_than_the_rate_says(ties):
    rng = np.random.default_rng(1)
    p_values = np.array([compare(*exchangeable(rng, ties=ties)).p_value for _ in range(1000)])
    for rate in (0.01, 0.05, 0.2):
        assert (p_values <= rate).mean() <= rate + 3 * math.sqrt(rate / 1000)
    if not ties:
        assert (p_values <= 0.2).mean() > 0.02, "the test could never fail"


def test_one_comparison_is_as_strict_as_it_says():
    rng = np.random.default_rng(2)
    labels, p_values = np.zeros(60, int), []
    for _ in range(2000):
        found = compare({"a": rng.random(60)}, labels, np.arange(60) < 10)
        assert [made.depth for made in found.made] == [1]
        p_values.append(math.exp(found.made[0].log_p))
    for above in (1, 3, 6):
        level = math.exp(log_p_value(above, 50, 10, depth=1))
        assert np.mean(np.array(p_values) <= level + 1e-9) == pytest.approx(level, abs=0.04)


def test_planted_outliers_are_found_with_their_class_and_number():
    rng = np.random.default_rng(3)
    labels, clean = np.repeat([0, 1, 2], 400), np.tile(np.arange(400) < 100, 3)
    values = rng.random(1200)
    values[labels == 1] += 0
    poisons = np.flatnonzero((labels == 1) & ~clean)[:80]
    values[poisons] = 2
    found = compare({"quiet": rng.random(1200), "loud": values}, labels, clean)
    worst = found.worst
    assert (worst.score, worst.label, worst.training, worst.clean) == ("loud", 1, 300, 100)
    assert worst.above >= 80
    assert found.p_value < 1e-6
    assert len(found.made) == 3 * 2 * len(DEPTHS)
    assert found.labels()[0] == 1


def test_odd_clean_samples_do_not_hide_many_poisons():
    labels, clean = np.zeros(1000, int), np.arange(1000) < 200
    values = np.random.default_rng(4).random(1000)
    values[:3] = 5  # clean samples that are odder than all poisons
    values[300:500] = 2
    found = compare({"a": values}, labels, clean)
    assert found.worst.depth == 4
    assert found.p_value < 1e-9


def test_ties_with_clean_samples_count_for_the_training_images():
    found = compare({"a": np.ones(100)}, np.zeros(100, int), np.arange(100) < 20)
    assert found.p_value == 1
    assert all(made.above == 0 for made in found.made)


def test_classes_with_too_few_clean_samples_are_named():
    labels = np.repeat([0, 1, 2], [50, 50, 20])
    clean = np.concatenate([np.arange(50) < 10, np.arange(50) < 9, np.ones(20, bool)])
    found = compare({"a": np.random.default_rng(0).random(120)}, labels, clean)
    assert found.missing == (1,), "class 2 has no training images, class 0 has just enough"
    assert {made.label for made in found.made} == {0}


def test_the_fewest_that_would_fail():
    labels, clean = np.zeros(1100, int), np.arange(1100) < 100
    found = compare({"a": np.random.default_rng(0).random(1100)}, labels, clean)
    fewest = found.fewest_to_fail(0, 0.01)
    limit = 0.01 / len(found.made)
    assert math.exp(log_p_value(fewest, 1000, 100, depth=1)) <= limit
    assert math.exp(log_p_value(fewest - 1, 1000, 100, depth=1)) > limit
    assert found.fewest_to_fail(0, 1e-200) is None
