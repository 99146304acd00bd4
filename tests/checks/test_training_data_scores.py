from __future__ import annotations

import numpy as np
import pytest
from made_up_features import PixelClassifier, points, source

from pytest_backdoor.checks.training_data import _neighbours, _pool, measure_training_data
from pytest_backdoor.checks.training_data._neighbours import label_disagreement
from pytest_backdoor.checks.training_data._pool import Pool, cross_entropy, look_at, make_pool
from pytest_backdoor.checks.training_data._scores import COMBINED, SINGLE, DataScores, tail_shares
from pytest_backdoor.checks.training_data._spectral import projections
from pytest_backdoor.errors import NotAssessableError, SettingsError


def by_hand(features, labels, images):
    """The same as ``label_disagreement``, one image after the other and without any trick."""
    shares = []
    for row, label, image in zip(features.astype(float), labels, images, strict=True):
        distances = ((features - row) ** 2).sum(axis=1)
        distances[images == image] = np.inf
        size = int((labels == label).sum())
        k = min(size, len(labels) - size)
        radius = np.sort(distances)[k - 1] * 1.001
        weights = np.clip(1 - distances / radius, 0, None)
        shares.append(1 - weights[labels == label].sum() / weights.sum())
    return np.array(shares)


def everything(values, labels):
    return label_disagreement(values, labels, np.arange(len(labels)))


def test_neighbours_are_those_of_the_definition():
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(120, 5)).astype(np.float32), rng.integers(0, 3, 120)
    images = np.arange(120)
    images[:6] = [100, 101, 102, 100, 100, 101]  # the same image more than once
    features[images == 100], features[images == 101] = features[100], features[101]
    found = label_disagreement(features, labels, images)
    np.testing.assert_allclose(found.disagreement, by_hand(features, labels, images), atol=2e-4)


def test_chunks_and_order_do_not_matter(monkeypatch):
    features, labels = points(300)
    whole = everything(features, labels)
    monkeypatch.setattr(_neighbours, "CHUNK_DISTANCES", 300 * 16)
    monkeypatch.setattr(_neighbours, "_workers", lambda: 3)
    order = np.random.default_rng(1).permutation(300)
    parts = everything(features[order], labels[order])
    np.testing.assert_allclose(parts.disagreement, whole.disagreement[order], atol=1e-5)
    assert set(everything(features, labels).disagreement == whole.disagreement) == {True}


def test_the_radius_may_be_told_from_a_part_of_the_distances(monkeypatch):
    features, labels = points(2000)
    labels = np.where(np.random.default_rng(0).random(2000) < 0.2, (labels + 1) % 3, labels)
    part = everything(features, labels).disagreement
    monkeypatch.setattr(_neighbours, "LARGEST_STRIDE", 1)
    assert np.abs(part - everything(features, labels).disagreement).max() < 0.03


def test_many_images_have_some_of_them_for_neighbours(monkeypatch):
    features, labels = points(600)
    labels[-5:] = (labels[-5:] + 1) % 3  # none of them among the references
    monkeypatch.setattr(_neighbours, "MOST_REFERENCES", 200)
    found = everything(features, labels)
    assert found.disagreement[-5:].min() > 0.9
    assert np.median(found.disagreement) < 0.2


@pytest.mark.parametrize("scale", [0.0, 1e-20, 1e6])
def test_features_of_any_size_give_shares(scale):
    features, labels = points(60)
    found = everything(np.float32(scale) * features, labels).disagreement
    assert np.isfinite(found).all()
    assert 0 <= found.min() <= found.max() <= 1


def test_one_class_has_no_other_labels():
    features, _ = points(30)
    found = everything(features, np.zeros(30, int))
    assert not found.disagreement.any()


def test_a_class_of_more_than_half_may_be_disagreed_with():
    features, labels = points(400, classes=2)
    keep = (labels == 0) | (np.arange(400) < 60)
    features, labels = features[keep], labels[keep]
    wrong = np.flatnonzero(labels == 1)[:3]
    labels[wrong] = 0
    found = everything(features, labels)
    assert found.disagreement[wrong].min() > 0.5
    assert (found.nearest[wrong] == 1).all()


def test_the_projection_is_that_of_the_singular_value_decomposition():
    rng = np.random.default_rng(0)
    features = (rng.normal(size=(90, 6)) * [5, 2, 1, 1, 1, 1]).astype(np.float32)
    labels = rng.integers(0, 3, 90)
    found = projections(features, labels)
    for label in range(3):
        own = features[labels == label].astype(float)
        own -= own.mean(axis=0)
        expected = own @ np.linalg.svd(own, full_matrices=False)[2][0]
        expected /= np.sqrt((expected**2).mean())
        one = found[labels == label]
        np.testing.assert_allclose(one * np.sign(one @ expected), expected, atol=2e-3)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_classes_of_few_or_equal_images_have_projections(count):
    found = projections(np.ones((count, 5), np.float32), np.zeros(count, int))
    assert not found.any()


def test_cross_entropy():
    logits = np.log(np.array([[0.7, 0.2, 0.1], [0.5, 0.5, 1e-30]], np.float32)) + 3
    np.testing.assert_allclose(cross_entropy(logits, np.array([1, 0])), -np.log([0.2, 0.5]), rtol=1e-5)


def test_tail_shares():
    np.testing.assert_allclose(tail_shares(np.array([3.0, 1, 1, 2])), [0.25, 1, 1, 0.5])


def pool_of(values, labels, clean_values=None, clean_labels=None):
    training = look_at(PixelClassifier(), source(values, labels), labels, np.arange(len(labels)))
    if clean_values is None:
        return make_pool(training, None, seed=0)
    chosen = np.arange(len(clean_labels))
    clean = look_at(PixelClassifier(), source(clean_values, clean_labels), clean_labels, chosen)
    return make_pool(training, clean, seed=0)


def test_a_pool_has_each_pair_of_image_and_label_once():
    values, labels = points(20)
    values[5], labels[5] = values[4], labels[4]  # a copy
    values[7], labels[7] = values[6], (labels[6] + 1) % 3  # the same image with another label
    clean_values, clean_labels = points(10, seed=1)
    clean_values[0], clean_labels[0] = values[9], labels[9]  # a training image that is vouched for
    clean_values[1], clean_labels[1] = values[8], (labels[8] + 1) % 3  # one that has another label there
    pool = pool_of(values, labels, clean_values, clean_labels)
    assert len(pool) == 20 + 10 - 2
    assert pool.clean.sum() == 10
    assert pool.of_training[4] == pool.of_training[5]
    assert pool.images[pool.of_training[6]] == pool.images[pool.of_training[7]]
    assert pool.clean[pool.of_training].tolist() == [number == 9 for number in range(20)]
    np.testing.assert_array_equal(pool.features[pool.of_training], values)
    np.testing.assert_array_equal(pool.labels[pool.of_training], labels)
    clean_first = pool.clean[: len(pool) // 2].sum()
    assert 0 < clean_first < 10, "the order would tell which are clean"


def test_images_are_looked_at_in_batches(monkeypatch):
    values, labels = points(50)
    whole = pool_of(values, labels)
    monkeypatch.setattr(_pool, "BATCH", 7)
    parts = pool_of(values, labels)
    np.testing.assert_array_equal(whole.features, parts.features)
    np.testing.assert_array_equal(whole.losses, parts.losses)


def test_many_features_become_fewer_and_keep_their_distances(monkeypatch):
    monkeypatch.setattr(_pool, "MOST_FEATURES", 400)

    class Wide(PixelClassifier):
        def features(self, images):
            flat, logits = super().features(images)
            return np.repeat(flat, 100, axis=1), logits

    values, labels = points(40)
    looked = look_at(Wide(), source(values, labels), labels, np.arange(40))
    assert (looked.features.shape, looked.feature_count) == ((40, 400), 800)
    small = ((looked.features[:20] - looked.features[20:]) ** 2).sum(axis=1)
    wide = 100 * ((values[:20] - values[20:]) ** 2).sum(axis=1)
    np.testing.assert_allclose(small, wide, rtol=0.35)


def poisoned(kind):
    """Training points with 30 planted poisons of class 0, and their numbers."""
    values, labels = points(1500)
    chosen = np.flatnonzero(labels == 0)[:30]
    if kind == "collision":  # at the centre of class 1, labelled 0
        values[chosen] = points(1500, seed=9)[0][np.flatnonzero(points(1500, seed=9)[1] == 1)[:30]]
    else:  # still of class 0 for the model, but apart from it in a direction of its own
        values[chosen, 6] += 0.6
    return values, labels, chosen


@pytest.mark.parametrize(
    ("kind", "sees", "blind"), [("collision", ("neighbours", "loss"), ()), ("apart", ("spectral",), ("loss",))]
)
def test_planted_poisons_are_ranked_first_by_the_scores_that_can_see_them(kind, sees, blind):
    values, labels, chosen = poisoned(kind)
    clean = source(*points(900, seed=5))
    found = measure_training_data(PixelClassifier(), source(values, labels), clean, seed=0)
    for name in sees:
        assert np.isin(found.scores.ranking(name)[:40], chosen).sum() == 30, name
    # Three rankings share the first places of the combined one.
    assert np.isin(found.scores.ranking(COMBINED)[:120], chosen).sum() == 30
    for name in blind:
        assert np.isin(found.scores.ranking(name)[:75], chosen).sum() < 15, name
    assert found.comparisons.p_value < 1e-4
    assert found.comparisons.worst.label == 0
    assert found.comparisons.worst.score.partition(",")[0] in sees


def test_a_class_that_is_half_poisoned_stands_out_on_one_side():
    values, labels = points(1200)
    chosen = np.flatnonzero(labels == 0)[::2]
    values[chosen, 6] += 0.6
    clean = source(*points(600, seed=5))
    found = measure_training_data(PixelClassifier(), source(values, labels), clean, seed=0)
    assert np.isin(found.scores.ranking("spectral")[: len(chosen)], chosen).mean() > 0.95
    assert found.comparisons.worst.score.startswith("spectral")
    assert found.comparisons.p_value < 1e-40


def test_alike_sets_are_rejected_no_more_often_than_the_rate_says():
    """Training and clean points of one distribution; the scores are computed from both, alike."""
    p_values = []
    for seed in range(150):
        values, labels = points(260, seed=seed)
        flipped = np.random.default_rng(seed).random(260) < 0.05
        labels = np.where(flipped, (labels + 1) % 3, labels)
        training, clean = source(values[:180], labels[:180]), source(values[180:], labels[180:])
        p_values.append(measure_training_data(PixelClassifier(), training, clean, seed=0).comparisons.p_value)
    assert np.mean(np.array(p_values) <= 0.1) <= 0.1 + 3 * np.sqrt(0.1 * 0.9 / 150)


def test_a_training_set_that_is_vouched_for_in_part():
    values, labels, chosen = poisoned("collision")
    trusted = np.setdiff1d(np.arange(1500), chosen)[::3]
    found = measure_training_data(
        PixelClassifier(), source(values, labels), source(values[trusted], labels[trusted]), seed=0
    )
    assert found.comparisons.p_value < 1e-3
    assert {made.training for made in found.comparisons.of_class(0)} == {
        int((labels == 0).sum() - (labels[trusted] == 0).sum())
    }


def test_a_poison_that_is_repeated_does_not_vote_for_itself():
    values, labels, chosen = poisoned("collision")
    values[chosen] = values[chosen[0]]
    found = measure_training_data(PixelClassifier(), source(values, labels), None, seed=0)
    assert found.scores.by_name["neighbours"][chosen].min() > 0.99


def test_the_result_is_the_same_every_time():
    values, labels, _ = poisoned("collision")
    clean = source(*points(90, seed=5))
    one, two = (measure_training_data(PixelClassifier(), source(values, labels), clean, seed=3) for _ in range(2))
    assert one.comparisons == two.comparisons
    for name in (*SINGLE, COMBINED):
        np.testing.assert_array_equal(one.scores.ranking(name), two.scores.ranking(name))


def test_progress_is_told():
    told = []
    values, labels = points(100)
    measure_training_data(
        PixelClassifier(), source(values, labels), None, seed=0, on_progress=lambda *now: told.append(now)
    )
    assert told[0] == ("Features of made-up.npz", 100, 100)
    assert told[-1] == ("Nearest neighbours", 100, 100)


VALUES, LABELS = points(60)


@pytest.mark.parametrize(
    ("training", "clean", "error", "says"),
    [
        (source(VALUES, None), None, NotAssessableError, "have no labels; give them in y"),
        (source(VALUES, LABELS + 1), None, SettingsError, "labels from 1 to 3, but the model has 3 classes"),
        (source(VALUES[:0], LABELS[:0]), None, NotAssessableError, "holds no training images"),
        (source(VALUES, (LABELS + 1) % 3), None, NotAssessableError, "only 0% of the images of made-up.npz"),
        (source(VALUES, LABELS), source(VALUES, (LABELS + 1) % 3), NotAssessableError, "order of the classes"),
        (source(VALUES, LABELS), source(VALUES, LABELS - 1), SettingsError, "labels from -1"),
    ],
)
def test_images_that_say_nothing(training, clean, error, says):
    with pytest.raises(error, match=says):
        measure_training_data(PixelClassifier(), training, clean, seed=0)


@pytest.mark.parametrize(
    ("clean", "says"),
    [
        (None, "There are no clean samples"),
        (source(VALUES, None), "have no labels"),
        (source(VALUES[:9], LABELS[:9]), "No class of the training set has 10 clean samples"),
    ],
)
def test_what_cannot_be_judged_is_ranked_all_the_same(clean, says):
    found = measure_training_data(PixelClassifier(), source(VALUES, LABELS), clean, seed=0)
    assert says in found.unjudged
    assert sorted(found.scores.ranking(COMBINED)) == list(range(60))


@pytest.mark.parametrize("side", ["spectral", "spectral, other side"])
def test_images_that_stand_out_are_those_that_are_counted(side):
    labels = np.repeat([0, 1], 60)
    projection = np.random.default_rng(5).normal(size=120).astype(np.float32)
    projection[[3, 7, 70]] = (9, 12, 20) if side == "spectral" else (-9, -12, -20)
    clean = np.arange(120) % 2 == 0
    pool = Pool(
        features=np.zeros((120, 1), np.float32),
        labels=labels,
        losses=np.zeros(120, np.float32),
        images=np.arange(120),
        clean=clean,
        of_training=np.array([70, 7, 5, 3, 7, 4]),
    )
    zeros = np.zeros(120, np.float32)
    scores = DataScores(pool=pool, disagreement=zeros, nearest=labels, projection=projection, by_name={}, tails={})
    made = next(one for one in scores.compare().made if (one.score, one.label, one.depth) == (side, 0, 1))
    assert made.above == 2
    # Row 1 and row 4 hold the same image; rows 0 and 5 are of another class and a clean sample.
    assert scores.standing_out(made).tolist() == [1, 4, 3]
