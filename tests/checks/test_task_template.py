from __future__ import annotations

import numpy as np
import pytest

from pytest_backdoor.calibration import pattern_template, prototype_template
from pytest_backdoor.checks.litmus import litmus_features


def features(networks: int, spread: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    return litmus_features(rng.normal(size=(3, 5)) + spread * rng.normal(size=(networks, 3, 5)))


def cosine(a, b):
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def lowest_to_the_others(clean):
    return min(cosine(one, np.delete(clean, i, axis=0).mean(axis=0)) for i, one in enumerate(clean))


@pytest.mark.parametrize("make", [pattern_template, prototype_template])
def test_the_product_with_a_template_is_the_cosine_with_the_mean(make):
    clean = features(6, 0.5)
    template, _ = make(clean)
    assert template.shape == (15,)
    assert template.dtype == np.float32
    for one in features(20, 3.0):
        assert one @ template == pytest.approx(cosine(one, clean.mean(axis=0)), abs=1e-6)


@pytest.mark.parametrize("spread", [0.0, 0.2, 0.5])
def test_the_least_similarity_is_half_as_much_again_below_1_as_the_lowest_to_the_others(spread):
    clean = features(6, spread)
    assert 1 - prototype_template(clean)[1] == pytest.approx(1.5 * (1 - lowest_to_the_others(clean)), abs=1e-9)


def test_networks_that_are_all_alike_give_a_similarity_that_a_pack_can_hold():
    assert prototype_template(features(2, 0.0))[1] <= 1


def test_the_sure_similarity_is_the_lowest_to_the_others_and_at_least_a_half():
    alike, different = features(6, 0.3), features(6, 3.0)
    assert lowest_to_the_others(different) < 0.5 < lowest_to_the_others(alike)
    assert pattern_template(alike)[1] == pytest.approx(lowest_to_the_others(alike))
    assert pattern_template(different)[1] == 0.5


@pytest.mark.parametrize(
    ("make", "clean", "reason"),
    [
        (prototype_template, features(1, 0.5), "two or more clean networks"),
        (prototype_template, features(6, 0.5)[0], "two or more clean networks"),
        (pattern_template, features(1, 0.5), "two or more clean networks"),
        (prototype_template, features(2, 0.0) * [[1], [-1]], "answers the prototypes unlike the others"),
        (prototype_template, features(6, 3.0), "answers the prototypes unlike the others"),
        (prototype_template, np.zeros((3, 15)), "answers the prototypes unlike the others"),
    ],
)
def test_networks_without_a_task_in_common(make, clean, reason):
    with pytest.raises(ValueError, match=reason):
        make(clean)
