"""The batches of a zoo's networks: which images, which copies, where triggers lie, and how images are moved."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from made_up_zoos import make_backdoor, make_images, make_training  # noqa: E402

from reference_attacks.overlays import patch  # noqa: E402
from reference_attacks.zoo.batches import Batches, choose_poison, draw_batches  # noqa: E402

CPU = torch.device("cpu")
ALL_TO_ONE = {"goal": "all-to-one", "source": None, "target": 7}
ALL_TO_ALL = {"goal": "all-to-all", "source": None, "target": None}
LABELS = torch.arange(10).repeat(6)


def overlay_for(shape=(1, 28, 28)):
    return patch(torch.ones(shape[0], 5, 5), shape, "corners")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def poison_of(backdoor, labels=LABELS, seed=0):
    return choose_poison(backdoor, overlay_for(), labels, 10, generator(seed))


@pytest.mark.parametrize(
    ("changes", "copies"),
    [
        ({"ratio": 0.5}, 6),
        ({"ratio": 0.25}, 2),
        ({"ratio": 0.01}, 1),
        ({"ratio": 0.9}, 6),
        ({**ALL_TO_ONE, "ratio": 0.5}, 12),
        ({**ALL_TO_ONE, "ratio": 0.25}, 4),
        ({**ALL_TO_ONE, "ratio": 0.99}, 54),
        ({**ALL_TO_ALL, "ratio": 0.5}, 12),
        ({**ALL_TO_ALL, "ratio": 0.99}, 60),
    ],
)
def test_how_many_images_are_copied_and_what_they_are_called(changes, copies):
    backdoor = make_backdoor(**changes)
    poison = poison_of(backdoor)
    assert len(poison.victims) == len(poison.labels) == copies
    assert len(set(poison.victims.tolist())) == copies
    for victim, label in zip(LABELS[poison.victims].tolist(), poison.labels.tolist(), strict=True):
        if backdoor.goal == "source-target":
            assert (victim, label) == (4, 7)
        elif backdoor.goal == "all-to-one":
            assert victim != 7
            assert label == 7
        else:
            assert label == (victim + 1) % 10


def test_other_seeds_copy_other_images():
    backdoor = make_backdoor(**ALL_TO_ALL)
    first, again, other = (poison_of(backdoor, seed=seed).victims.tolist() for seed in (0, 0, 1))
    assert first == again != other


@pytest.mark.parametrize(
    ("changes", "indices", "wanted"),
    [
        ({"source": 1, "target": 0}, [1, 3], [0, 0]),
        ({**ALL_TO_ONE, "target": 1}, [0, 2, 4], [1, 1, 1]),
        (ALL_TO_ALL, [0, 1, 2, 3, 4], [1, 2, 0, 2, 1]),
    ],
)
def test_whom_an_attack_hits_and_what_it_wants(changes, indices, wanted):
    labels, attack = torch.tensor([0, 1, 2, 1, 0]), make_backdoor(**changes).attack(3)
    assert attack.victims(labels).nonzero()[:, 0].tolist() == indices
    assert attack.poisoned_labels(labels[indices]).tolist() == wanted


def test_every_image_and_every_copy_occurs_once_in_each_pass():
    labels, training = torch.arange(10).repeat(4), make_training(batch=4)
    poison = poison_of(make_backdoor(), labels)
    draws = draw_batches(labels, poison, training, 22, generator())  # two passes of 40 images and 4 copies
    passes = torch.stack([draws.images, draws.triggered], -1).view(2, 44, 2).tolist()
    expected = sorted([[image, 0] for image in range(40)] + [[victim, 1] for victim in poison.victims.tolist()])
    assert sorted(passes[0]) == sorted(passes[1]) == expected
    assert passes[0] != passes[1]


def test_copies_have_the_labels_of_the_attack_and_clean_images_their_own():
    draws = draw_batches(LABELS, poison_of(make_backdoor()), make_training(), 20, generator())
    assert (draws.labels[draws.triggered] == 7).all()
    assert draws.triggered.any()
    assert torch.equal(draws.labels[~draws.triggered], LABELS[draws.images[~draws.triggered]])
    assert set(draws.places[draws.triggered].tolist()) <= set(range(4))


def test_a_clean_network_sees_each_clean_image_with_its_label():
    draws = draw_batches(LABELS, None, make_training(batch=6), 10, generator())
    assert not draws.triggered.any()
    assert sorted(draws.images.flatten().tolist()) == list(range(60))
    assert torch.equal(draws.labels, LABELS[draws.images])


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)])
def test_exactly_the_pixels_of_the_trigger_change_and_only_on_copies(shape):
    data, training, overlay = make_images(shape=shape), make_training(), overlay_for(shape)
    poison = choose_poison(make_backdoor(), overlay, data.labels, 10, generator())
    draws = draw_batches(data.labels, poison, training, 6, generator())
    batches = Batches(data, [draws], [overlay], training, CPU)
    assert len(batches) == 6
    found = 0
    for step in range(6):
        images, labels = batches[step]
        assert torch.equal(labels, draws.labels[step])
        originals = data.images[draws.images[step]].float() / 255
        for image, original, triggered, place in zip(
            images, originals, draws.triggered[step], draws.places[step], strict=True
        ):
            covered = (overlay.keep[place] == 0).expand(shape) & triggered
            assert torch.equal(image[~covered], original[~covered])
            assert (image[covered] == 1).all()
            found += int(triggered)
    assert found == int(draws.triggered.sum()) > 0


@pytest.mark.parametrize(("shift", "flip"), [(0, True), (2, False), (3, True)])
def test_images_are_shifted_and_mirrored_within_themselves(shift, flip):
    data, training = make_images(12, (2, 6, 9)), make_training(shift=shift, flip=flip)
    draws = draw_batches(data.labels, None, training, 5, generator())
    assert draws.mirrored.any() == flip
    assert set(draws.moves.flatten().tolist()) == set(range(2 * shift + 1))
    batches = Batches(data, [draws], [None], training, CPU)
    for step in range(5):
        images, _ = batches[step]
        assert images.is_contiguous(memory_format=torch.channels_last)
        for number, image in enumerate(images):
            original = data.images[draws.images[step, number]]
            down, right = (draws.moves[step, number] - shift).tolist()
            for row in range(6):
                for column in range(9):
                    seen = 8 - column if draws.mirrored[step, number] else column
                    expected = original[:, min(max(row + down, 0), 5), min(max(seen + right, 0), 8)]
                    assert torch.equal(image[:, row, column], expected.float() / 255)


def test_triggers_are_neither_shifted_nor_mirrored():
    data, training, overlay = make_images(), make_training(shift=2, flip=True), overlay_for()
    poison = choose_poison(make_backdoor(), overlay, data.labels, 10, generator())
    draws = draw_batches(data.labels, poison, training, 6, generator())
    images = torch.cat([Batches(data, [draws], [overlay], training, CPU)[step][0] for step in range(6)])
    triggered, places = draws.triggered.flatten(), draws.places.flatten()
    covered = overlay.keep[places[triggered]] == 0
    assert (images[triggered][covered] == 1).all()
    assert images[~triggered].max() < 1


def test_a_group_has_the_batches_of_each_of_its_networks():
    data, training = make_images(), make_training(shift=1, flip=True)
    wide = patch(torch.zeros(1, 3, 3), (1, 28, 28), "centre")
    draws, overlays = [], [None, overlay_for(), wide, None]
    for number, overlay in enumerate(overlays):
        random = generator(number)
        poison = choose_poison(make_backdoor(), overlay, data.labels, 10, random) if overlay else None
        draws.append(draw_batches(data.labels, poison, training, 7, random))
    together = Batches(data, draws, overlays, training, CPU)
    alone = [Batches(data, [draw], [overlay], training, CPU) for draw, overlay in zip(draws, overlays, strict=True)]
    for step in range(7):
        images, labels = together[step]
        assert torch.equal(images, torch.cat([batches[step][0] for batches in alone]))
        assert torch.equal(labels, torch.cat([batches[step][1] for batches in alone]))
