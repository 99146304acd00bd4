from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from stand_in_subjects import FunctionClassifier, StandInSubject, context, linear_classifier, pack_for

from pytest_backdoor.calibration import ReferenceScores
from pytest_backdoor.checks._base import BehaviouralCheck, Cost, Measurement
from pytest_backdoor.checks.litmus import LitmusCheck
from pytest_backdoor.checks.reversal import ReversalCheck
from pytest_backdoor.errors import NotAssessableError, SettingsError
from pytest_backdoor.findings import Outcome
from pytest_backdoor.settings import DEFAULT_FAMILIES

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 4, 4), dtype=np.uint8)
CLASSIFIER = linear_classifier()
RIGHT = CLASSIFIER.logits(IMAGES[:, None].astype(np.float32) / 255).argmax(axis=1)
CONSTANT = FunctionClassifier(lambda images: np.eye(3)[np.ones(len(images), int)], (1, 4, 4), 3)


def samples(tmp_path, classifier, x, y=None):
    np.savez(tmp_path / "data.npz", x=x, **({} if y is None else {"y": y}))
    return context(tmp_path, data="data.npz").samples_for(StandInSubject(classifier))


def with_accuracy(right: int) -> np.ndarray:
    return np.where(np.arange(len(RIGHT)) < right, RIGHT, (RIGHT + 1) % 3)


def test_the_stand_in_labels_are_of_more_than_one_class():
    assert len(set(RIGHT)) > 1


@pytest.mark.parametrize("labels", [None, RIGHT, with_accuracy(10)])
def test_samples_that_the_model_classifies_are_used(tmp_path, labels):
    found = samples(tmp_path, CLASSIFIER, IMAGES, labels)
    assert len(found) == 20
    assert (found.labels is None) == (labels is None)


def test_without_data_there_are_no_samples(tmp_path):
    assert context(tmp_path).samples_for(StandInSubject(CLASSIFIER)) is None


@pytest.mark.parametrize(
    ("classifier", "x", "y", "reason"),
    [
        (CLASSIFIER, IMAGES[:9], RIGHT[:9], "holds 9 clean samples; give at least 10"),
        (CLASSIFIER, IMAGES[:0], None, "holds 0 clean samples"),
        (CLASSIFIER, IMAGES, with_accuracy(9), "classifies only 45% of the clean samples of data.npz correctly"),
        (CLASSIFIER, IMAGES, with_accuracy(0), "input_range, mean, std, layout and the order of the classes"),
        (CONSTANT, IMAGES, None, "predicts class 1 for every clean sample of data.npz"),
        (CONSTANT, IMAGES, RIGHT, "Check input_range, mean, std and layout"),
        (CONSTANT, IMAGES, np.zeros(20, int), "classifies only 0%"),
    ],
)
def test_samples_that_nothing_can_be_judged_by(tmp_path, classifier, x, y, reason):
    with pytest.raises(NotAssessableError, match=reason):
        samples(tmp_path, classifier, x, y)


def test_right_answers_on_samples_of_one_class_do_not_blame_the_preprocessing(tmp_path):
    assert len(samples(tmp_path, CONSTANT, IMAGES, np.ones(20, int))) == 20


def test_samples_are_read_once(tmp_path):
    np.savez(tmp_path / "data.npz", x=IMAGES)
    given = context(tmp_path, data="data.npz")
    first = given.samples_for(StandInSubject(CLASSIFIER))
    (tmp_path / "data.npz").unlink()
    assert given.samples_for(StandInSubject(CLASSIFIER)) is first


def test_no_more_than_the_limit_are_drawn(tmp_path):
    found = samples(tmp_path, CLASSIFIER, np.resize(IMAGES, (2100, 4, 4)))
    assert len(found) == 2000


@pytest.mark.parametrize(
    ("checks", "expected"),
    [
        ((), 0.04),
        (("litmus",), 0.04),
        (("litmus", "reversal"), 0.04),
        (("litmus", "reversal", "mine"), 0.02),
        (("mine", "yours"), 0.02),
        (("litmus", "reversal", "mine", "yours"), 0.04 / 3),
    ],
)
def test_the_false_positive_rate_is_shared_with_checks_that_are_judged_apart(tmp_path, checks, expected):
    given = context(tmp_path, fpr=0.04, behavioural_checks=checks)
    assert given.significance == pytest.approx(expected)


@pytest.mark.parametrize(
    ("checks", "judges_data", "others", "data"),
    [
        ((), True, None, 0.04),
        (("litmus", "margin"), True, 0.04 * 0.995, 0.04 * 0.005),
        (("litmus", "mine"), True, 0.02 * 0.995, 0.04 * 0.005),
        (("litmus",), False, 0.04, 0.04 * 0.005),
    ],
)
def test_the_check_of_the_training_set_has_a_share_of_its_own(tmp_path, checks, judges_data, others, data):
    given = replace(context(tmp_path, fpr=0.04, behavioural_checks=checks), judges_data=judges_data)
    assert given.data_significance == pytest.approx(data)
    if others is not None:
        assert given.significance == pytest.approx(others)


def test_a_hundred_reference_models_still_suffice_beside_the_training_set(tmp_path):
    given = replace(context(tmp_path, behavioural_checks=("litmus",)), judges_data=True)
    assert given.significance >= 1 / (1 + 100)


@pytest.mark.parametrize(
    ("settings", "kind", "families"),
    [
        ({}, "prototypes", DEFAULT_FAMILIES),
        ({"data": "x.npz", "families": ["warp", "patch"]}, "samples", ("warp", "patch")),
    ],
)
def test_the_scores_that_the_planned_checks_ask_for(tmp_path, settings, kind, families):
    given = context(tmp_path, behavioural_checks=("litmus", "reversal", "mine"), **settings)
    assert given.planned_components() == ("litmus", *(f"reversal-{kind}/{family}" for family in families))


def test_litmus_is_judged_by_the_whole_rate_where_the_pack_has_no_references_for_reversal(tmp_path):
    few = ReferenceScores(scores=np.linspace(-1, 1, 120), description="clean")
    pack_for(CLASSIFIER, references={"litmus": few}).save(tmp_path / "pack.npz")
    given = context(tmp_path, pack="pack.npz", behavioural_checks=("litmus", "reversal"))
    found = LitmusCheck().run(StandInSubject(CLASSIFIER), given)
    assert found.outcome in (Outcome.PASSED, Outcome.FAILED)
    with pytest.raises(NotAssessableError, match="'tiny' holds no reference scores of trigger reversal"):
        ReversalCheck().run(StandInSubject(CLASSIFIER), given)


def test_a_pack_is_looked_for_below_the_root(tmp_path):
    pack_for(CLASSIFIER).save(tmp_path / "packs" / "p.npz")
    (pack,) = context(tmp_path, pack="packs/p.npz").packs_for(StandInSubject(CLASSIFIER))
    assert pack.name == "tiny"
    with pytest.raises(SettingsError, match=r"other\.npz cannot be read"):
        context(tmp_path, pack="other.npz").packs_for(StandInSubject(CLASSIFIER))


class Measured(BehaviouralCheck):
    name = "measured"
    cost = Cost.FORWARD

    def __init__(self, score: float, reference: bool = True) -> None:
        self.score = score
        self.reference = reference

    def measure(self, subject, context):
        pack = pack_for(CLASSIFIER)
        references = {"measured": pack.references["litmus"]} if self.reference else {}
        return Measurement(
            components={"measured": self.score},
            pack=replace(pack, references=references),
            suspicion="Bad.",
            reassurance="Good.",
            remedy="Act.",
            evidence={"a": 1},
            seed=7,
        )


@pytest.mark.parametrize(
    ("score", "reference", "fpr", "outcome", "p_value", "begins", "remedy"),
    [
        (1.5, True, 0.01, Outcome.FAILED, 1 / 200, "Bad. 0 of 199", "Act."),
        (1.0, True, 0.01, Outcome.FAILED, 2 / 200, "Bad. 1 of 199", "Act."),
        (0.98, True, 0.01, Outcome.PASSED, 3 / 200, "Good. 2 of 199", ""),
        (-5.0, True, 0.01, Outcome.PASSED, 1.0, "Good. 199 of 199", ""),
        (1.5, True, 0.001, Outcome.NOT_ASSESSED, 1 / 200, "199 clean reference models cannot", "Use a"),
        (1.5, False, 0.01, Outcome.NOT_ASSESSED, None, "There are no reference scores", "Build a"),
    ],
)
def test_a_measurement_is_judged_by_the_calibration(tmp_path, score, reference, fpr, outcome, p_value, begins, remedy):
    found = Measured(score, reference).run(StandInSubject(CLASSIFIER), context(tmp_path, fpr=fpr))
    assert (found.check, found.outcome, found.score, found.seed) == ("measured", outcome, score, 7)
    assert found.behavioural
    assert found.summary.startswith(begins)
    assert found.remedy.startswith(remedy)
    assert found.p_value == (None if p_value is None else pytest.approx(p_value))
    assert found.evidence["a"] == 1
    assert (found.evidence["reference"] is None) == (not reference)
