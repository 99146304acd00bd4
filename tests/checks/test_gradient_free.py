"""The trigger search without gradients, on classifiers of 12×12 images made of numpy alone and on the examples."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from pytest_backdoor.checks.reversal._candidates import bounds, mutated, screening_windows
from pytest_backdoor.checks.reversal._gradient_free import search_triggers
from pytest_backdoor.checks.reversal._queries import AGNOSTIC, Queries, margins, needed_success, round_robin
from pytest_backdoor.models import Subject
from pytest_backdoor.settings import ScanSettings

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
CLASSES, SIDE, PER_CLASS = 4, 12, 6
AREA = SIDE * SIDE
PLACE = (slice(8, 10), slice(7, 9))


def quadrants(images):
    """Logits ``(N, 4)``: the brightness of each quadrant, which no small trigger outweighs."""
    half = SIDE // 2
    parts = [images[:, :, row : row + half, column : column + half] for row in (0, half) for column in (0, half)]
    return np.stack([part.mean((1, 2, 3)) for part in parts], axis=1) * 10


def planted(images, *, target=2):
    """The same, but a 2×2 patch of the colours red and green on a diagonal decides for ``target``."""
    logits = quadrants(images)
    patch = images[:, :, *PLACE]
    wanted = np.zeros(patch.shape[1:])
    wanted[0, [0, 1], [0, 1]] = wanted[1, [0, 1], [1, 0]] = 1
    near = 1 - np.abs(patch - wanted).mean((1, 2, 3))
    logits[:, target] += 25 * np.maximum(near - 0.5, 0)
    return logits


def all_to_all(images):
    """A bright patch turns each class into the next one."""
    logits = quadrants(images)
    bright = images[:, :, *PLACE].mean((1, 2, 3)) > 0.9
    logits[bright] = np.roll(logits[bright], 1, axis=1)
    return logits


@pytest.fixture
def clean_images():
    """Float32 ``(24, 3, 12, 12)``, dark but for the quadrant of the class, and their labels."""
    generator = np.random.default_rng(4)
    labels = np.repeat(np.arange(CLASSES), PER_CLASS)
    images = 0.2 * generator.random((len(labels), 3, SIDE, SIDE), dtype=np.float32)
    for image, label in zip(images, labels, strict=True):
        row, column = (6 * int(part) for part in divmod(label, 2))
        image[:, row : row + 6, column : column + 6] += 0.5
    return images, labels


class Counted:
    """A classifier that counts the images it is run on."""

    def __init__(self, classifier):
        self.classifier, self.images = classifier, 0

    def __call__(self, images):
        assert images.dtype == np.float32
        assert images.min() >= 0
        assert images.max() <= 1
        self.images += len(images)
        return self.classifier(images).astype(np.float32)


def search(classifier, images, labels, *, budget=40_000, seed=0, **options):
    counted = Counted(classifier)
    generator = np.random.default_rng(seed)
    found = search_triggers(counted, images, labels, CLASSES, budget=budget, generator=generator, **options)
    assert counted.images <= budget
    return found


def share_turned(classifier, trigger, images, labels):
    predicted = classifier(images * (1 - trigger.mask) + trigger.pattern * trigger.mask).argmax(1)
    if trigger.target == AGNOSTIC:
        return (predicted != labels).mean()
    return (predicted[labels != trigger.target] == trigger.target).mean()


def test_a_planted_trigger_is_found_for_its_target_at_its_place(clean_images):
    found = search(planted, *clean_images)
    assert [trigger.target for trigger in found] == [0, 1, 2, 3, AGNOSTIC]
    smallest = min(found[:-1], key=lambda trigger: trigger.size)
    assert smallest.target == 2
    assert smallest.size <= 4
    assert smallest.mask[0, *PLACE].sum() == smallest.size
    assert found[-1].size <= 2 * smallest.size
    others = [trigger.size for trigger in found[:-1] if trigger.target != 2]
    assert min(others) > 4 * smallest.size


def test_triggers_of_a_clean_classifier_stay_large(clean_images):
    assert min(trigger.size for trigger in search(quadrants, *clean_images)) > 12


def test_a_trigger_without_a_single_target_is_found_by_the_agnostic_search(clean_images):
    found = search(all_to_all, *clean_images)
    assert found[-1].size <= 6
    assert min(trigger.size for trigger in found[:-1]) > 2 * found[-1].size


@pytest.mark.parametrize("classifier", [planted, quadrants, all_to_all])
def test_size_and_success_are_those_of_the_mask_and_pattern(classifier, clean_images):
    for trigger in search(classifier, *clean_images, budget=15_000):
        assert trigger.mask.shape == (1, SIDE, SIDE)
        assert trigger.pattern.shape == (3, SIDE, SIDE)
        assert {trigger.mask.dtype, trigger.pattern.dtype} == {np.dtype("float32")}
        assert set(np.unique(trigger.mask)) <= {0, 1}
        assert trigger.success == pytest.approx(share_turned(classifier, trigger, *clean_images))
        needed = 1 - 1 / CLASSES - 0.05 if trigger.target == AGNOSTIC else 0.95
        assert trigger.size == (trigger.mask.sum() if trigger.success >= needed else AREA)


def test_the_same_seed_gives_the_same_triggers_and_another_one_others(clean_images):
    first, second, other = (search(planted, *clean_images, budget=10_000, seed=seed) for seed in (1, 1, 2))
    for one, two in zip(first, second, strict=True):
        assert (one.target, one.size, one.success) == (two.target, two.size, two.success)
        np.testing.assert_array_equal(one.mask, two.mask)
        np.testing.assert_array_equal(one.pattern, two.pattern)
    assert any((one.mask != two.mask).any() for one, two in zip(first, other, strict=True))


@pytest.mark.parametrize("budget", [0, 100, 20_000])
def test_a_classifier_that_nothing_turns_has_triggers_of_the_whole_image(budget, clean_images):
    images, labels = clean_images
    answers = np.tile(np.array([0, 3, 1, 0], np.float32), (100_000, 1))
    found = search(lambda batch: answers[: len(batch)], images, np.ones_like(labels), budget=budget)
    by_target = {trigger.target: trigger for trigger in found}
    for target in (0, 2, 3, AGNOSTIC):
        assert by_target[target].size == AREA
        assert by_target[target].success == 0
    assert by_target[1].size == AREA  # all images are of its class already, so nothing shows a trigger


def test_nearly_enough_success_is_not_success(clean_images):
    images, labels = clean_images
    stubborn = images[labels == 0][:2].copy()

    def classifier(batch):
        logits = planted(batch)
        # Two of 18 images of other classes have a mark that keeps them from turning; it lies where no trigger helps.
        logits[batch[:, 0, 0, 0] == 1, 0] += 1000
        return logits

    stubborn[:, 0, 0, 0] = 1
    changed = images.copy()
    changed[np.flatnonzero(labels == 0)[:2]] = stubborn
    strict, lenient = (search(classifier, changed, labels, success=success)[2] for success in (0.95, 0.85))
    assert lenient.size <= 6
    assert lenient.success == pytest.approx(16 / 18)
    assert strict.size > lenient.size  # it has to paint over the marks too


def test_margins_say_whether_an_image_is_turned():
    logits = np.array([[3.0, 1.0, 2.0], [0.0, 5.0, 1.0], [1.0, 1.0, 1.0]], np.float32)
    labels = np.array([0, 2, 1])
    np.testing.assert_allclose(margins(logits, labels, 1), [-2, 4, 0])
    np.testing.assert_allclose(margins(logits, labels, AGNOSTIC), [-1, 4, 0])
    np.testing.assert_allclose(margins(np.stack([logits, -logits]), labels, 1)[1], [1, -5, 0])


def test_the_agnostic_search_allows_for_the_images_of_the_target():
    labels = np.arange(10).repeat(3)
    assert needed_success(labels, 4, 0.95) == 0.95
    assert needed_success(labels, AGNOSTIC, 0.95) == pytest.approx(0.85)
    assert needed_success(np.zeros(5), AGNOSTIC, 0.95) == 0.95
    assert needed_success(np.array([0, 1]), AGNOSTIC, 0.95) == 0.5


def test_round_robin_takes_one_of_each_class_first():
    labels = np.array([0, 0, 0, 0, 1, 1, 2])
    order = round_robin(labels, np.random.default_rng(0))
    assert sorted(order) == list(range(7))
    assert sorted(labels[order][:3]) == [0, 1, 2]
    assert sorted(labels[order][3:5]) == [0, 1]


def test_queries_paint_the_pattern_and_count_every_image(clean_images):
    images, labels = clean_images
    queries = Queries(logits=lambda batch: batch.reshape(len(batch), -1), images=images, labels=labels, left=100)
    masks = np.zeros((2, SIDE, SIDE), bool)
    masks[1, 3, 4] = True
    patterns = np.ones((2, 3, SIDE, SIDE), np.float32)
    answers = queries.answers(masks, patterns, np.array([5, 0])).reshape(2, 2, 3, SIDE, SIDE)
    assert queries.left == 96
    np.testing.assert_array_equal(answers[0], images[[5, 0]])
    assert (answers[1, :, :, 3, 4] == 1).all()
    assert (answers[1] != images[[5, 0]]).sum() == 6


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_windows_of_every_size_lie_within_the_image_and_are_no_more_than_asked_for(channels):
    images = np.random.default_rng(0).random((8, channels, 10, 14), dtype=np.float32)
    labels = np.arange(8) % 2
    batches = list(screening_windows(images, labels, 300, np.random.default_rng(0)))
    assert sum(len(masks) for masks, _ in batches) <= 300
    assert {int(mask.sum()) for masks, _ in batches for mask in masks} == {140, 35, 15, 8, 4}
    for masks, patterns in batches:
        assert masks.any((1, 2)).all()
        assert patterns.shape == (len(masks), channels, 10, 14)
        assert patterns.min() >= 0
        assert patterns.max() <= 1


@pytest.mark.parametrize("growing", [False, True])
def test_changes_keep_a_trigger_valid_and_leave_the_parent_alone(growing):
    generator = np.random.default_rng(0)
    mask, pattern = np.zeros((9, 7), bool), np.full((3, 9, 7), 0.5, np.float32)
    mask[4:6, 2:5] = True
    before = mask.copy()
    sizes = set()
    for _ in range(300):
        child, colours = mutated(mask, pattern, growing=growing, generator=generator)
        sizes.add(int(child.sum()))
        assert child.any()
        assert set(np.unique(colours)) <= {0, 0.5, 1}
    np.testing.assert_array_equal(mask, before)
    assert (pattern == 0.5).all()
    assert 6 in sizes
    assert (max(sizes) > 6) == growing
    assert (min(sizes) < 6) == (not growing)


def test_a_trigger_of_one_pixel_never_vanishes():
    generator = np.random.default_rng(0)
    mask, pattern = np.zeros((5, 5), bool), np.zeros((1, 5, 5), np.float32)
    mask[2, 4] = True
    for _ in range(200):
        mask, pattern = mutated(mask, pattern, growing=False, generator=generator)
        assert mask.sum() == 1
        assert bounds(mask)[1] <= 5


@pytest.fixture(scope="module")
def digits():
    """Six test images of each MNIST class, float32 in [0, 1], and their labels."""
    root = os.environ.get("BACKDOOR_DATA_ROOT")
    raw = Path(root or "", "MNIST", "raw")
    if root is None or not (raw / "t10k-images-idx3-ubyte").is_file():
        pytest.skip("MNIST is not here: point BACKDOOR_DATA_ROOT at a folder that holds MNIST/raw")
    labels = np.fromfile(raw / "t10k-labels-idx1-ubyte", np.uint8, offset=8).astype(np.int64)
    chosen = np.concatenate([np.flatnonzero(labels == digit)[:6] for digit in range(10)])
    pixels = np.fromfile(raw / "t10k-images-idx3-ubyte", np.uint8, offset=16).reshape(-1, 1, 28, 28)[chosen]
    return pixels.astype(np.float32) / 255, labels[chosen]


@pytest.mark.parametrize("name", ["badnet", "clean"])
def test_the_trigger_of_the_example_is_found_and_its_clean_twin_has_none_so_small(name, digits):
    classifier = Subject(name, ScanSettings(), path=EXAMPLES / f"mnist-{name}.onnx").classifier
    images, labels = digits
    right = classifier.logits(images).argmax(1) == labels
    generator = np.random.default_rng(0)
    found = search_triggers(classifier.logits, images[right], labels[right], 10, budget=60_000, generator=generator)
    smallest = min(found[:-1], key=lambda trigger: trigger.size)
    if name == "clean":
        assert min(trigger.size for trigger in found) > 40
        return
    assert smallest.target == 3
    assert smallest.size <= 5
    rows, columns = smallest.mask[0].nonzero()
    # The trigger's pixels lie in rows and columns 24 to 26.
    assert min(rows.min(), columns.min()) >= 23
