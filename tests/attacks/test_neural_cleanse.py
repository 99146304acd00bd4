"""Neural Cleanse as published, and the faults of its ports that it must not have."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from reference_attacks.baselines.anomaly import anomaly_indices, flagged, smallest_index  # noqa: E402
from reference_attacks.baselines.cost_schedule import CostSchedule, EarlyStop  # noqa: E402
from reference_attacks.baselines.neural_cleanse import (  # noqa: E402
    ClassTrigger,
    CleansePlan,
    Cleansing,
    neural_cleanse,
    target_loss,
)

CLASSES, SIZE = 4, 8
NORMS = [10.0, 20.0, 30.0, 60.0]
QUICK = CleansePlan(steps=40, mini_batches=2, batch=8)


def linear(*, backdoor: int | None = None, shift: float = 0.0):
    """Each class adds up one quadrant of the image; for ``backdoor`` the last pixel decides."""
    weights = torch.zeros(CLASSES, SIZE, SIZE)
    for number in range(CLASSES):
        row, column = divmod(number, 2)
        weights[number, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = 1
    if backdoor is not None:
        weights[backdoor, -1, -1] = 60
    return lambda images: images.flatten(1) @ weights.flatten(1).T + shift


def images(count: int = 20) -> torch.Tensor:
    made = torch.rand(count, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(1)) * 0.5
    made[..., -1, -1] = 0
    return made


def cleanse(forward, plan: CleansePlan = QUICK, seed: int = 0, **options) -> Cleansing:
    return neural_cleanse(forward, images(), CLASSES, plan, torch.Generator().manual_seed(seed), **options)


def make_trigger(target: int, norm: float, *, succeeded: bool = True) -> ClassTrigger:
    return ClassTrigger(
        target=target,
        norm=norm,
        mask=torch.zeros(SIZE, SIZE),
        pattern=torch.zeros(1, SIZE, SIZE),
        success=float(succeeded),
        succeeded=succeeded,
        steps=1,
        image_gradients=1,
        seconds=0.0,
    )


def schedule() -> CostSchedule:
    return CostSchedule(initial=1e-3, multiplier=2.0, patience=5)


def costs(successes: list[bool]) -> list[float]:
    replayed, seen = schedule(), []
    for success in successes:
        replayed.update(success=success)
        seen.append(replayed.cost)
    return seen


def test_the_cost_rises_nineteen_times_in_a_hundred_successes():
    replayed = schedule()
    for _ in range(100):
        replayed.update(success=True)
    assert (replayed.ups, replayed.downs) == (19, 0)
    assert replayed.cost == 1e-3 * 2**19


def test_the_cost_is_zero_until_five_successes_in_a_row():
    assert costs([True] * 4 + [False] + [True] * 5) == [0.0] * 9 + [1e-3]


def test_the_first_rise_comes_four_steps_after_the_start():
    assert costs([True] * 9) == [0.0] * 4 + [1e-3] * 4 + [2e-3]


def test_five_failures_divide_the_cost_by_the_multiplier_to_the_power_of_one_and_a_half():
    assert costs([True] * 5 + [False] * 5)[-2:] == pytest.approx([1e-3, 1e-3 / 2**1.5])


def test_a_success_between_failures_keeps_the_cost():
    assert costs([True] * 5 + ([False] * 4 + [True]) * 5)[-1] == 1e-3


def test_moves_at_cost_zero_do_not_count_as_settled():
    replayed = schedule()
    for success in [False] * 5 + [True] * 5:
        replayed.update(success=success)
    assert (replayed.ups, replayed.downs, replayed.settled) == (0, 0, False)
    for success in [True] * 4 + [False] * 5:
        replayed.update(success=success)
    assert (replayed.ups, replayed.downs, replayed.settled) == (1, 1, True)


def test_early_stop_waits_for_success_for_a_settled_cost_and_for_its_patience():
    stop = EarlyStop(threshold=1.0, patience=3)
    assert not any(stop.reached(math.inf, settled=True) for _ in range(10))
    assert [stop.reached(5.0, settled=True) for _ in range(4)] == [False, False, False, True]
    assert not stop.reached(4.0, settled=True)
    assert [stop.reached(4.0, settled=False) for _ in range(3)] == [False] * 3
    assert stop.reached(4.0, settled=True)


def test_a_search_moves_its_cost_both_ways_and_then_stops_early():
    found = cleanse(linear(backdoor=2), CleansePlan(steps=400, mini_batches=2, batch=8), order=[0, 1])
    assert all(trigger.steps < 400 for trigger in found.triggers)
    # Two batches a step; the last of a pass over 20 images has only 4.
    assert all(12 * t.steps <= t.image_gradients <= 16 * t.steps for t in found.triggers)


def test_the_backdoor_has_by_far_the_smallest_norm():
    found = cleanse(linear(backdoor=2), CleansePlan(steps=150, mini_batches=2, batch=8))
    assert all(trigger.succeeded for trigger in found.triggers)
    norms = [trigger.norm for trigger in found.triggers]
    assert norms.index(min(norms)) == 2
    assert found.smallest_norm == norms[2]
    assert norms[2] < 0.5 * sorted(norms)[1]


def test_the_same_generator_gives_the_same_triggers_and_seconds_do_not_count():
    first, again = cleanse(linear()), cleanse(linear())
    assert first == again
    assert first != cleanse(linear(), seed=1)


def test_global_random_numbers_are_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    cleanse(linear(), CleansePlan(steps=2, mini_batches=1))
    assert torch.equal(torch.rand(3), expected)


def test_the_order_of_classes_changes_nothing():
    plan = CleansePlan(steps=60, mini_batches=2, batch=8)
    assert cleanse(linear(backdoor=1), plan) == cleanse(linear(backdoor=1), plan, order=[3, 1, 0, 2])


def test_a_class_alone_gives_what_it_gives_among_others():
    (alone,) = cleanse(linear(), order=[3]).triggers
    assert alone == cleanse(linear()).triggers[3]


def test_masks_and_patterns_start_fresh_and_uniform_for_each_class():
    # Nothing succeeds and no gradient leads anywhere, so one step of an Adam with a zero gradient leaves the start.
    found = cleanse(lambda batch: 0 * batch.flatten(1)[:, :CLASSES] + torch.eye(CLASSES)[0], order=[1, 2, 3])
    masks = torch.stack([trigger.mask for trigger in found.triggers])
    assert not torch.equal(masks[0], masks[1])
    assert 0.4 < masks.mean() < 0.6
    assert 0.25 < masks.std() < 0.33
    assert not torch.equal(found.triggers[0].mask, found.triggers[0].pattern[0])


def constant(batch: torch.Tensor) -> torch.Tensor:
    """Never class 1, 2 or 3, but with a gradient towards them."""
    return torch.cat([batch.flatten(1).sum(1, keepdim=True) * 0 + 1e4, batch.flatten(1)[:, :3]], 1)


def test_a_class_that_never_succeeds_keeps_its_last_mask():
    def after(steps: int) -> ClassTrigger:
        plan = CleansePlan(steps=steps, mini_batches=2, batch=8)
        return cleanse(constant, plan, order=[2]).triggers[0]

    first, last = after(1), after(9)
    assert not first.succeeded
    assert not last.succeeded
    assert (last.steps, last.success) == (9, 0.0)
    moved = last.pattern[0, 0, 1] - first.pattern[0, 0, 1]
    assert moved > 0.05


def test_a_better_success_never_loses_to_a_smaller_mask_that_failed():
    # The first steps of a search succeed by their large masks or not at all; whatever is kept must have succeeded.
    for trigger in cleanse(linear(backdoor=2), CleansePlan(steps=150, mini_batches=2, batch=8)).triggers:
        assert trigger.success >= 0.99


def test_norms_of_failed_triggers_stay_out_of_the_index():
    succeeded = [make_trigger(target, norm) for target, norm in enumerate(NORMS)]
    failed = make_trigger(4, 0.01, succeeded=False)
    without, with_failed = Cleansing(triggers=tuple(succeeded)), Cleansing(triggers=(*succeeded, failed))
    assert with_failed.anomaly_index == without.anomaly_index
    assert with_failed.flagged == without.flagged == []
    assert with_failed.smallest_norm == 10
    assert with_failed.index_of_all == smallest_index([*NORMS, 0.01])


def test_without_any_success_there_is_no_index_and_the_norm_is_the_whole_image():
    nothing = Cleansing(triggers=tuple(make_trigger(target, 1.0, succeeded=False) for target in range(3)))
    assert nothing.anomaly_index is None
    assert nothing.flagged == []
    assert nothing.smallest_norm == SIZE * SIZE


def test_the_median_of_an_even_number_is_the_mean_of_the_middle_two():
    middle, deviation = 25.0, 1.4826 * 10
    assert np.median(NORMS) == middle
    assert np.median(np.abs(np.array(NORMS) - middle)) == 10
    assert anomaly_indices(NORMS) == pytest.approx([abs(norm - middle) / deviation for norm in NORMS])
    lower = torch.tensor(NORMS).median().item()
    assert smallest_index(NORMS) != pytest.approx(abs(10 - lower) / (1.4826 * 10))


def test_only_small_norms_are_flagged():
    norms = [1.0, 50.0, 51.0, 49.0, 52.0, 48.0, 200.0]
    assert anomaly_indices(norms)[-1] > 2
    assert flagged(norms) == [True] + [False] * 6


def test_norms_without_deviation_give_no_index():
    assert anomaly_indices([3.0, 3.0, 3.0]) == [None] * 3
    assert flagged([3.0, 3.0, 3.0]) == [False] * 3
    assert anomaly_indices([]) == flagged([]) == []


def test_logits_may_be_negative_and_shifted_at_will():
    plain, shifted = cleanse(linear()), cleanse(linear(shift=-100.0))
    for one, other in zip(plain.triggers, shifted.triggers, strict=True):
        assert math.isfinite(other.norm)
        assert (other.succeeded, other.steps) == (one.succeeded, one.steps)
        assert other.norm == pytest.approx(one.norm, rel=0.02)


def test_losses_by_hand():
    logits = torch.tensor([[1.0, -2.0, 0.5], [-3.0, 2.0, 0.0]])
    probabilities = torch.softmax(logits, 1)[:, 1]
    assert target_loss(logits, 1, "cross-entropy").item() == pytest.approx(-probabilities.log().mean().item())
    # Keras clips the one-hot row, which it takes for the prediction, to [1e-7, 1 - 1e-7].
    one_hot = torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64).clamp(1e-7, 1 - 1e-7)
    swapped = -(torch.softmax(logits.double(), 1) * one_hot.log()).sum(1).mean().item()
    assert target_loss(logits, 1, "swapped").item() == pytest.approx(swapped, rel=1e-5)


def test_the_norm_is_of_the_mask_and_not_of_eight_bits_of_it():
    for trigger in cleanse(linear(backdoor=2)).triggers:
        assert trigger.norm == pytest.approx(trigger.mask.double().sum().item(), rel=1e-6)
        rounded = (trigger.mask * 255).round() / 255
        assert not torch.equal(trigger.mask, rounded)
        assert trigger.mask.min() >= 0
        assert trigger.mask.max() <= 1 + 1e-6


def test_published_settings():
    plan = CleansePlan()
    assert (plan.steps, plan.mini_batches, plan.batch, plan.learning_rate) == (1000, 31, 32, 0.1)
    assert (plan.success, plan.initial_cost, plan.multiplier, plan.patience) == (0.99, 1e-3, 2.0, 5)
    assert (plan.stop_at, plan.stop_patience, plan.loss) == (1.0, 25, "cross-entropy")


def test_wrong_numbers_are_refused():
    with pytest.raises(ValueError, match="at least one step"):
        CleansePlan(steps=0)
    with pytest.raises(ValueError, match="at least one image"):
        neural_cleanse(linear(), images(0), CLASSES, QUICK, torch.Generator())
