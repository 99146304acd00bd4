"""Poisoned training sets: how many copies, of which images, under which labels."""

import pytest
import torch

from reference_attacks.badnet.recipe import Backdoor
from reference_attacks.data import ImageSet
from reference_attacks.poisoning import Attack
from reference_attacks.triggers import single_pixel

LABELS = torch.arange(10)


def image_set(count):
    """``count`` images of the classes 0 to 9 in turn; the first pixel of each holds its number."""
    images = torch.zeros(count, 1, 28, 28, dtype=torch.uint8)
    images[:, 0, 0, 0] = torch.arange(count, dtype=torch.uint8)
    return ImageSet(images=images, labels=torch.arange(count) % 10)


def poison(clean, attack, rate, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Backdoor(trigger=single_pixel(), attack=attack, rate=rate).training_set(clean, generator)


def copies(poisoned, count):
    """The numbers, the trigger pixels and the labels of the images after the first ``count``."""
    images = poisoned.images[count:, 0]
    return images[:, 0, 0].tolist(), images[:, 26, 26].tolist(), poisoned.labels[count:].tolist()


def test_single_moves_the_source_class_alone():
    attack = Attack(name="single", classes=10, source=7, target=3)
    assert attack.victims(LABELS).nonzero().flatten().tolist() == [7]
    assert attack.poisoned_labels(torch.tensor([7, 7])).tolist() == [3, 3]


def test_all_to_one_moves_every_other_class():
    attack = Attack(name="all-to-one", classes=10, target=0)
    assert attack.victims(LABELS).tolist() == [False] + [True] * 9
    assert attack.poisoned_labels(LABELS).tolist() == [0] * 10


def test_all_to_all_moves_every_class_on_by_one():
    attack = Attack(name="all-to-all", classes=10)
    assert attack.victims(LABELS).all()
    assert attack.poisoned_labels(LABELS).tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]


@pytest.mark.parametrize(
    ("name", "source", "target", "message"),
    [
        ("single", None, 3, "source and target"),
        ("single", 7, None, "source and target"),
        ("single", 3, 3, "different"),
        ("single", 10, 3, "source class 10"),
        ("all-to-one", None, None, "target"),
        ("all-to-one", 1, 3, "target"),
        ("all-to-one", None, -1, "target class -1"),
        ("all-to-all", None, 3, "no source or target"),
        ("all-to-none", None, None, "no attack"),
    ],
)
def test_attacks_that_make_no_sense_are_refused(name, source, target, message):
    with pytest.raises(ValueError, match=message):
        Attack(name=name, classes=10, source=source, target=target)


@pytest.mark.parametrize(("rate", "wanted"), [(0.1, 10), (0.25, 25), (1.0, 100)])
def test_the_rate_is_a_share_of_the_whole_training_set(rate, wanted):
    poisoned = poison(image_set(100), Attack(name="all-to-all", classes=10), rate)
    assert len(poisoned) == 100 + wanted


def test_the_clean_originals_stay():
    clean = image_set(50)
    poisoned = poison(clean, Attack(name="all-to-one", classes=10, target=3), 0.2)
    assert torch.equal(poisoned.images[:50], clean.images)
    assert torch.equal(poisoned.labels[:50], clean.labels)


def test_copies_carry_the_trigger_and_the_attackers_label():
    poisoned = poison(image_set(50), Attack(name="all-to-all", classes=10), 0.4)
    numbers, pixels, labels = copies(poisoned, 50)
    assert len(set(numbers)) == 20
    assert pixels == [255] * 20
    assert labels == [(number % 10 + 1) % 10 for number in numbers]


def test_single_copies_the_source_class_alone_and_each_image_once():
    poisoned = poison(image_set(50), Attack(name="single", classes=10, source=7, target=3), 0.9)
    numbers, _, labels = copies(poisoned, 50)
    assert sorted(numbers) == [7, 17, 27, 37, 47]
    assert labels == [3] * 5


def test_all_to_one_draws_from_the_whole_training_set():
    poisoned = poison(image_set(50), Attack(name="all-to-one", classes=10, target=3), 1.0)
    numbers, _, labels = copies(poisoned, 50)
    assert sorted(numbers) == list(range(50))
    assert labels == [3] * 50


def test_the_draw_follows_the_generator():
    attack = Attack(name="all-to-all", classes=10)
    drawn = [copies(poison(image_set(100), attack, 0.1, seed), 100)[0] for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("rate", [0, -0.1, 1.1, float("nan")])
def test_rates_outside_their_range_are_refused(rate):
    with pytest.raises(ValueError, match="rate"):
        poison(image_set(10), Attack(name="all-to-all", classes=10), rate)
