from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from stripes import SIZE, TARGET, classifier, images_of, unit_forward  # noqa: E402  (after the skip)

from pytest_backdoor.checks.reversal._families import Patch, make_family  # noqa: E402
from pytest_backdoor.checks.reversal._nominate import NOMINATED, targets_to_search  # noqa: E402
from pytest_backdoor.checks.reversal._score import contrasts, family_score, fit_statistics, held_out_scores  # noqa: E402
from pytest_backdoor.checks.reversal._search import AGNOSTIC, losses, mean_margins, search  # noqa: E402
from pytest_backdoor.checks.reversal._smallest import smallest_trigger  # noqa: E402
from pytest_backdoor.settings import TRIGGER_FAMILIES  # noqa: E402

SHAPES = [(1, 28, 28), (3, 32, 32), (3, 17, 40), (1, 3, 3)]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# Families


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", TRIGGER_FAMILIES)
def test_a_family_keeps_to_valid_images_and_its_budget(name, shape):
    family = make_family(name, shape)
    assert family.name == name
    images = torch.rand(4, *shape, generator=seeded())
    for spread in (0.1, 100.0):
        parameters = family.start(3, seeded()) * spread
        for slot in range(len(family.labels)):
            changed = family.apply(images, parameters, slot)
            assert changed.shape == (3, 4, *shape)
            assert changed.min() >= -1e-5
            assert changed.max() <= 1 + 1e-5
            mask = family.mask(parameters[0], slot)
            assert mask.shape == (1, *shape[1:])
            assert 0 <= mask.min() <= mask.max() <= 1
            if name != "warp":
                untouched = (mask == 0).expand(4, *shape)
                torch.testing.assert_close(changed[0][untouched], images[untouched])


@pytest.mark.parametrize("name", TRIGGER_FAMILIES)
def test_all_arms_start_alike_and_gradients_reach_every_slot(name):
    family = make_family(name, (3, 16, 16))
    start = family.start(4, seeded())
    assert all(torch.equal(start[0], other) for other in start)
    assert torch.equal(start, family.start(4, seeded()))
    images = torch.rand(2, 3, 16, 16, generator=seeded(1))
    for slot in range(len(family.labels)):
        parameters = start.clone().requires_grad_()
        weights = torch.rand(3, 16, 16, generator=seeded(2))
        (gradient,) = torch.autograd.grad((family.apply(images, parameters, slot) * weights).sum(), parameters)
        assert torch.isfinite(gradient).all()
        assert gradient.flatten(1).abs().sum(1).min() > 0


def test_windows_cover_the_image_and_its_corners():
    patch = Patch(input_shape=(1, 28, 28))
    masks = torch.stack([patch.mask(torch.zeros(1), slot) for slot in range(len(patch.labels))])
    assert len(masks) == 25
    covered = masks.amax(0)[0]
    assert covered[[0, 0, -1, -1], [0, -1, 0, -1]].tolist() == [1] * 4
    assert covered.mean() > 0.75
    assert (masks.sum((1, 2, 3)) == patch.side**2).all()


# The search


@pytest.mark.parametrize("per_source", [False, True])
def test_losses_and_margins_by_hand(per_source):
    logits = torch.tensor([[[3.0, 1.0, 0.0], [0.0, 2.0, 5.0], [1.0, 4.0, 0.0], [2.0, 6.0, 1.0]]]).repeat(2, 1, 1)
    labels, targets = torch.tensor([0, 2, 1, 0]), torch.tensor([1, AGNOSTIC])
    margins, success = mean_margins(logits, labels, targets, per_source=per_source)
    # Towards class 1, images of class 1 aside: -2, -3 and 4. Away: -2, -3, -3 and 4.
    if per_source:
        assert margins.tolist() == pytest.approx([1.0, 1.0])  # class 0 has -2 and 4
        assert success.tolist() == pytest.approx([0.5, 0.5])
    else:
        assert margins.tolist() == pytest.approx([-1 / 3, -1.0])
        assert success.tolist() == pytest.approx([1 / 3, 1 / 4])
    values = losses(logits, labels, targets, per_source=per_source)
    probabilities = logits[0].softmax(-1)
    towards = -probabilities[[0, 1, 3], 1].log()
    away = -(1 - probabilities[range(4), labels]).log()
    if not per_source:
        assert values.tolist() == pytest.approx([float(towards.mean()), float(away.mean())], abs=1e-4)
    else:
        assert float(values[0]) < float(towards.mean())
        assert float(values[0]) >= float(min(towards[1], (towards[0] + towards[2]) / 2)) - 1e-6


def test_success_is_judged_on_images_that_took_no_part():
    # The network knows the very images of the search, and only on them the trigger works.
    opened = classifier()
    images = images_of(opened)
    plain = unit_forward(opened, images)
    seen = {image.numpy()[:, :8, :4].tobytes() for image in images.images}

    def overfitted(batch):
        known = torch.tensor([image.detach().numpy()[:, :8, :4].tobytes() in seen for image in batch])
        return plain(batch) + 9 * known[:, None] * batch[:, :, 8:, 8:].mean((1, 2, 3))[:, None] * torch.eye(4)[TARGET]

    found = search(overfitted, images, torch.arange(4), Patch(input_shape=(1, SIZE, SIZE)), seeded())
    corner = len(found.family.labels) - 1
    assert found.family.labels[corner] == "rows 8 to 9, columns 8 to 9"
    assert found.success[corner, TARGET] == 0


def test_arms_do_not_influence_each_other():
    opened = classifier(backdoor="targeted")
    images = images_of(opened)
    forward = unit_forward(opened, images)
    patch = Patch(input_shape=(1, SIZE, SIZE))
    together = search(forward, images, torch.arange(4), patch, seeded())
    alone = search(forward, images, torch.tensor([TARGET]), patch, seeded())
    torch.testing.assert_close(together.margins[:, [TARGET, -1]], alone.margins, rtol=1e-4, atol=1e-4)


def test_the_smallest_trigger_of_a_failed_start_is_the_whole_start():
    opened = classifier()
    images = images_of(opened)
    nothing = torch.zeros(1, SIZE, SIZE)
    found = smallest_trigger(lambda batch: unit_forward(opened, images)(batch * 0 + 0.1), images, 2, nothing, nothing)
    assert found.size == SIZE * SIZE
    assert torch.equal(found.mask, nothing)


# Many classes


def test_a_planted_target_among_hundreds_is_nominated():
    classes, target = 300, 217
    generator = seeded(3)
    directions = torch.randn(classes, SIZE * SIZE, generator=generator) / SIZE

    def forward(batch):
        own = batch.flatten(1) @ directions.T
        bright = torch.relu(batch[:, 0, 8, 6, None] - 0.4)
        return own + 30 * bright * torch.eye(classes)[target]

    from pytest_backdoor.checks.reversal._images import ReversalImages

    shown = torch.rand(24, 1, SIZE, SIZE, generator=generator) * 0.3
    labels = forward(shown).argmax(1)
    images = ReversalImages(
        images=shown[:8], labels=labels[:8], held_out=shown[8:], held_out_labels=labels[8:], source="samples"
    )
    nominated = targets_to_search(forward, images, classes, Patch(input_shape=(1, SIZE, SIZE)), seeded())
    assert len(nominated) == NOMINATED
    assert nominated.tolist() == sorted(set(nominated.tolist()))
    assert target in nominated.tolist()
    few = targets_to_search(forward, images, 10, Patch(input_shape=(1, SIZE, SIZE)), seeded())
    assert few.tolist() == list(range(10))


# The score


def test_contrasts_are_taken_within_a_slot():
    margins = np.array([[1.0, 2.0, 9.0, 0.5], [5.0, 4.0, 3.0, -1.0]])
    np.testing.assert_allclose(contrasts(margins), [[-1, 0, 7, 0.5], [1, 0, -1, -1]])
    # The median of an even number of targets is the mean of the middle pair.
    np.testing.assert_allclose(contrasts(np.array([[0.0, 1.0, 3.0, 10.0, 2.0]])), [[-2, -1, 1, 8, 2]])


def test_a_score_by_statistics_counts_standard_deviations():
    rng = np.random.default_rng(0)
    clean = rng.normal(size=(40, 3, 5)) * np.array([1, 1, 1, 1, 4.0])
    statistics = fit_statistics(clean)
    assert statistics.mean.shape == statistics.spread.shape == (3, 5)
    own = clean[0].copy()
    own[1, 2] += 20
    score = family_score(own, statistics)
    assert (score.slot, score.arm) == (1, 2)
    expected = (contrasts(own)[1, 2] - statistics.mean[1, 2]) / statistics.spread[1, 2]
    assert score.value == pytest.approx(expected, rel=1e-5)


def test_the_agnostic_arm_gives_way_to_a_target_that_stands_out_half_as_far():
    statistics = fit_statistics(np.random.default_rng(0).normal(size=(50, 2, 5)))
    for targeted, expected in ((12.0, 1), (4.0, 4)):
        margins = np.zeros((2, 5))
        margins[0, 4], margins[1, 1] = 15.0, targeted
        assert family_score(margins, statistics).arm == expected


def test_without_statistics_the_agnostic_arm_is_left_out():
    assert family_score(np.array([[1.0, 0.0, 0.0, 50.0]]), None).arm == 0


def test_a_reference_model_is_scored_by_the_others():
    margins = np.random.default_rng(0).normal(size=(12, 2, 4))
    margins[3, 1, 2] += 30
    scores = held_out_scores(margins)
    inside = family_score(margins[3], fit_statistics(margins)).value
    assert scores.shape == (12,)
    assert scores[3] > 2 * inside
    assert scores.argmax() == 3
    with pytest.raises(ValueError, match="two or more clean models"):
        fit_statistics(margins[:1])


def test_a_slot_that_never_moves_has_a_score():
    constant = np.zeros((5, 1, 4))
    assert math.isfinite(family_score(constant[0], fit_statistics(constant)).value)
