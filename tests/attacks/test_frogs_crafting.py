"""Crafting of poisons: the steps as published, and poisons in a batch that do not see each other."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("torch")

import torch

from reference_attacks.poison_frogs.crafting import CraftingPlan, craft, watermarked

SHAPE = (3, 6, 6)
PIXELS = 3 * 6 * 6
POLYAK = CraftingPlan(iterations=60, similarity=1e-5, batch=4)
DESCENT = replace(POLYAK, step_rule="descent", learning_rate=0.5)
BOTH = pytest.mark.parametrize("plan", [POLYAK, DESCENT], ids=["polyak", "descent"])


@pytest.fixture
def features():
    """A small frozen network that is not linear."""
    generator = torch.Generator().manual_seed(1)
    first = torch.randn(PIXELS, 80, generator=generator) / PIXELS**0.5
    second = torch.randn(80, 20, generator=generator) / 80**0.5
    return lambda images: torch.nn.functional.softplus(torch.tanh(2 * images.flatten(1) @ first) @ second)


def images(count, seed):
    return torch.randint(0, 256, (count, *SHAPE), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def distance(features, one, other):
    return (features(one.float() / 255) - features(other.float() / 255)).norm(dim=1)


def by_the_book(features, base, target, *, beta, steps, rate=None):
    """Algorithm 1 of the paper, line by line, for pixels in [0, 1]; every ``rate`` is Polyak's where there is none."""
    base, wanted = base.float() / 255, features(target.float() / 255).detach()
    image = base
    for _ in range(steps):
        image = image.detach().requires_grad_()
        squares = (features(image) - wanted).square().sum(1)
        (gradient,) = torch.autograd.grad(squares.sum(), image)
        steepness = gradient.flatten(1).square().sum(1)
        step = (squares.detach() / steepness if rate is None else torch.full_like(steepness, rate)).view(-1, 1, 1, 1)
        forward = image.detach() - step * gradient
        image = ((forward + step * beta * base) / (1 + beta * step)).clamp(0, 1)
    return image


@pytest.mark.parametrize("rule", [{"step_rule": "polyak"}, {"step_rule": "descent", "learning_rate": 0.1}])
def test_steps_are_those_of_the_algorithm(features, monkeypatch, rule):
    monkeypatch.setattr("reference_attacks.poison_frogs.collision.GROWTH", 1.0)
    bases, targets = images(3, 1), images(3, 2)
    plan = CraftingPlan(iterations=3, similarity=1e-4, **rule)
    poisons = craft(features, bases, targets, plan)
    beta = 1e-4 * (20 / PIXELS) ** 2 * 255**2
    expected = by_the_book(features, bases, targets, beta=beta, steps=3, rate=rule.get("learning_rate"))
    assert ((poisons.images.float() - expected * 255).abs() <= 1).all()
    assert (poisons.images.float() - bases.float()).abs().max() > 20


@BOTH
def test_poisons_collide_and_stay_near_their_bases(features, plan):
    bases, targets = images(6, 1), images(6, 2)
    poisons = craft(features, bases, targets, plan)
    assert poisons.images.dtype == torch.uint8
    assert (poisons.distances < 0.3 * distance(features, bases, targets)).all()
    near = craft(features, bases, targets, replace(plan, similarity=1.0))
    change = [(found.images.float() - bases.float()).norm() for found in (near, poisons)]
    assert change[0] < 0.5 * change[1]


@BOTH
def test_what_is_told_is_measured_on_the_rounded_images(features, plan):
    bases, targets = images(6, 1), images(6, 2)
    poisons = craft(features, bases, targets, plan)
    measured = distance(features, poisons.images, targets)
    assert torch.allclose(poisons.distances, measured, atol=1e-5)
    changes = (poisons.images.float() - bases.float()).flatten(1).square().sum(1)
    expected = measured.square() + plan.similarity * (20 / PIXELS) ** 2 * changes
    assert torch.allclose(poisons.objectives, expected, rtol=1e-4)


@BOTH
@pytest.mark.parametrize("changes", [{}, {"stop_distance": 0.1}, {"bound": 8 / 255}])
def test_a_poison_is_the_same_alone_and_in_any_batch(features, changes, plan):
    bases, targets = images(7, 1), images(7, 2)
    together = craft(features, bases, targets, replace(plan, **changes, batch=3))
    for number in range(7):
        alone = craft(features, bases[number, None], targets[number, None], replace(plan, **changes, batch=1))
        assert (alone.images[0].int() - together.images[number].int()).abs().max() <= 1
        assert alone.distances[0] == pytest.approx(float(together.distances[number]), rel=0.05, abs=0.01)


def test_no_poison_takes_more_steps_than_it_may(features, monkeypatch):
    # A poison that goes back to its best image in its last step.
    monkeypatch.setattr("reference_attacks.poison_frogs.collision.PATIENCE", 1)
    plan = replace(POLYAK, iterations=9, learning_rate=1.9)
    assert craft(features, images(6, 1), images(6, 2), plan).iterations.max() <= 9


def test_a_learning_rate_is_not_carried_to_the_next_poison():
    # The first target needs a far smaller rate than the second: its features are steep.
    def features(images):
        flat = images.flatten(1)
        return torch.where(flat[:, :1] > 0.5, 100.0, 0.1) * flat

    bases, targets = torch.zeros(2, *SHAPE, dtype=torch.uint8), torch.full((2, *SHAPE), 90, dtype=torch.uint8)
    bases[0, 0, 0, 0] = targets[0, 0, 0, 0] = 200
    plan = replace(DESCENT, iterations=20, learning_rate=10.0, similarity=0.0, batch=1)
    assert craft(features, bases, targets, plan).images[1].float().mean() > 80


def test_polyaks_steps_cross_the_kinks_at_which_descent_ends():
    generator = torch.Generator().manual_seed(1)
    layers = [torch.randn(PIXELS, 100, generator=generator), torch.randn(100, 20, generator=generator) / 10]
    bases, targets = images(6, 1), images(6, 2)

    def features(some):
        return torch.relu(torch.relu((some.flatten(1) - 0.5) @ layers[0]) @ layers[1])

    polyak, descent = (craft(features, bases, targets, plan) for plan in (POLYAK, DESCENT))
    assert polyak.objectives.mean() < 0.5 * descent.objectives.mean()


def test_a_rate_that_is_too_large_decays_and_the_result_is_never_worse_than_the_base(features):
    bases, targets = images(5, 1), images(5, 2)
    poisons = craft(features, bases, targets, replace(DESCENT, learning_rate=1e6))
    assert (poisons.distances < 0.5 * distance(features, bases, targets)).all()


def test_finished_poisons_leave_and_waiting_ones_take_their_place(features):
    bases, targets = images(9, 1), images(9, 2)
    targets[0] = bases[0]  # Finished before it starts.
    sizes, finished = [], []

    def counting(batch):
        sizes.append(len(batch)) if batch.requires_grad else None
        return features(batch)

    poisons = craft(counting, bases, targets, replace(POLYAK, batch=4, stop_distance=0.2), on_step=finished.append)
    assert (poisons.distances < 0.2).all()
    assert poisons.iterations[0] == 0
    assert (poisons.images[0] == bases[0]).all()
    assert poisons.iterations.max() < POLYAK.iterations
    assert sizes[:2] == [4, 4]
    assert len(sizes) == len(finished) < poisons.iterations.sum()
    assert finished == sorted(finished)
    assert finished[-1] == 9
    assert sum(sizes) == int(poisons.iterations.sum()) + 9


@BOTH
def test_rounded_poisons_keep_the_bound(features, plan):
    bases, targets = images(5, 1), images(5, 2)
    poisons = craft(features, bases, targets, replace(plan, bound=2 / 255))
    assert (poisons.images.int() - bases.int()).abs().max() == 2
    poisons = craft(features, bases, targets, replace(plan, bound=2.7 / 255))
    assert (poisons.images.int() - bases.int()).abs().max() == 2
    assert (poisons.distances < distance(features, bases, targets)).all()
    assert torch.allclose(poisons.objectives, poisons.distances.square(), rtol=1e-4)


@BOTH
def test_poisons_that_can_go_no_further_leave_early(features, plan):
    poisons = craft(features, images(2, 1), images(2, 2), replace(plan, similarity=1e3, iterations=100_000))
    assert poisons.iterations.max() < 2000


@BOTH
def test_a_step_into_what_is_not_finite_is_taken_back(plan):
    # Features that exist only below a brightness that the first steps overshoot.
    def features(images):
        return torch.sqrt(0.6 - images).flatten(1)

    bases, targets = (torch.full((2, *SHAPE), level, dtype=torch.uint8) for level in (20, 140))
    rate = 100.0 if plan.step_rule == "descent" else 4.0
    poisons = craft(features, bases, targets, replace(plan, similarity=0.0, learning_rate=rate))
    assert poisons.distances.isfinite().all()
    assert (poisons.distances < 0.2 * distance(features, bases, targets)).all()


@pytest.mark.parametrize("broken", ["base", "target"])
def test_features_that_are_not_finite_are_refused(broken):
    pair = {"base": images(2, 1).clamp(1), "target": images(2, 2).clamp(1)}
    pair[broken][0, 0, 0, 0] = 0
    with pytest.raises(ValueError, match=f"{broken}.* not finite"):
        craft(lambda some: some.flatten(1).log(), pair["base"], pair["target"], POLYAK)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"iterations": 0}, "positive"),
        ({"batch": 0}, "positive"),
        ({"learning_rate": 0.0}, "positive"),
        ({"learning_rate": float("nan")}, "positive"),
        ({"similarity": -1.0}, "not negative"),
        ({"bound": 0.001}, "below one of 255 levels"),
        ({"step_rule": "newton"}, "no step rule 'newton'; choose one of descent, polyak"),
    ],
)
def test_settings_out_of_range_are_refused(features, changes, message):
    with pytest.raises(ValueError, match=message):
        craft(features, images(2, 1), images(2, 2), replace(POLYAK, **changes))


def test_images_that_do_not_fit_together_are_refused(features):
    with pytest.raises(ValueError, match="one target for each base"):
        craft(features, images(2, 1), images(3, 2), POLYAK)
    with pytest.raises(ValueError, match="uint8"):
        craft(features, images(2, 1), images(2, 2).float(), POLYAK)


def test_no_poisons_of_no_bases(features):
    poisons = craft(features, images(0, 1), images(0, 2), POLYAK)
    assert poisons.images.shape == (0, *SHAPE)
    assert len(poisons.distances) == len(poisons.objectives) == 0


def test_a_watermark_is_blended_not_added():
    bases, targets = images(2, 1), images(2, 2)
    blended = watermarked(bases, targets[:1], 0.3)
    expected = (0.3 * targets[:1].double() + 0.7 * bases.double()).round()
    assert (blended.double() - expected).abs().max() <= 1
    assert (watermarked(bases, targets, 0.0) == bases).all()
    assert (watermarked(bases, targets, 1.0) == targets).all()
    with pytest.raises(ValueError, match="between 0 and 1"):
        watermarked(bases, targets, 30)
