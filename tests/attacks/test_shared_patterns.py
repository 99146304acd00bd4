"""One set of patterns for several tasks, which a new one measures by its clean networks."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")

from test_litmus_fit import areas, made_up_stack  # noqa: E402

from reference_attacks.detectors.litmus import PatternPlan, balanced_batches  # noqa: E402
from reference_attacks.detectors.shared import fit_shared  # noqa: E402

PLAN = PatternPlan(patterns=4, epochs=8, batch=6)


def test_a_task_with_other_targets_needs_clean_networks_alone():
    fit, validation = made_up_stack(24, 0, (0, 1)), made_up_stack(12, 50, (2, 3))
    shared = fit_shared([fit], [validation], PLAN)
    new = made_up_stack(12, 100, (5, 6, 7))
    assert areas(shared.for_task(made_up_stack(40, 200).clean), new) == 1


def test_every_step_has_a_batch_of_every_task():
    small, large = made_up_stack(4, 0), made_up_stack(12, 20)
    first, again = (fit_shared([small, large], [small, large], PLAN) for _ in range(2))
    assert torch.equal(first.patterns, again.patterns)
    assert first.patterns.shape == (4, 3, 32, 32)
    torch.testing.assert_close(first.patterns * 255, (first.patterns * 255).round())


@pytest.mark.parametrize("size", [1, 4, 100])
def test_batches_hold_every_network_once_and_clean_ones_each(size):
    poisoned = torch.arange(17) % 3 == 0
    batches = balanced_batches(poisoned, size, torch.Generator().manual_seed(0))
    assert torch.cat(batches).sort().values.tolist() == list(range(17))
    assert all((~poisoned[batch]).sum() >= 2 for batch in batches)
