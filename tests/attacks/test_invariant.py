from __future__ import annotations

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")

from reference_attacks.detectors.figures import area_under_curve  # noqa: E402
from reference_attacks.detectors.invariant import (  # noqa: E402
    InvariantPlan,
    fit_invariant,
    fitted_to,
    invariant_features,
)
from reference_attacks.networks import make_network  # noqa: E402
from reference_attacks.zoo.store import FamilyStack, NetworkStack  # noqa: E402

PLAN = InvariantPlan(patterns=2, epochs=25, hidden=8)


def made_up_stack(count: int, first_seed: int, shape: tuple[int, int, int], classes: int) -> NetworkStack:
    """Random networks; every second one has a bias that pushes one class whatever the image."""
    states = []
    for number in range(count):
        state = make_network("plain", shape, classes, seed=first_seed + number).state_dict()
        if number % 2:
            state["fc2.bias"][number % classes] += 0.5
        states.append(state)
    part = FamilyStack(
        family="plain",
        input_shape=shape,
        classes=classes,
        weights={name: torch.stack([state[name] for state in states]) for name in states[0]},
        records=[{"name": str(n), "backdoor": {} if n % 2 else None} for n in range(count)],
    )
    return NetworkStack(parts=(part,))


def test_features_do_not_change_when_classes_are_renamed():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, 3, 7, generator=generator)
    renamed = logits[..., torch.randperm(7, generator=generator)]
    torch.testing.assert_close(invariant_features(logits), invariant_features(renamed))
    torch.testing.assert_close(invariant_features(logits), invariant_features(2 * logits + 3), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("classes", [2, 10, 43])
def test_the_number_of_features_does_not_depend_on_the_number_of_classes(classes):
    assert invariant_features(torch.randn(4, 3, classes)).shape == (4, 3 * 8 + 2 * 8 + 3)


def test_patterns_become_images_of_the_network():
    patterns = torch.rand(2, 3, 32, 32)
    assert fitted_to(patterns, (3, 32, 32)) is patterns
    assert fitted_to(patterns, (1, 28, 28)).shape == (2, 1, 28, 28)


def test_it_separates_networks_of_a_task_with_another_number_of_classes():
    fit = [made_up_stack(16, 0, (1, 28, 28), 10), made_up_stack(16, 100, (3, 32, 32), 6)]
    validation = [made_up_stack(6, 200, (1, 28, 28), 10), made_up_stack(6, 300, (3, 32, 32), 6)]
    unseen = made_up_stack(12, 400, (3, 28, 28), 4)
    state = torch.get_rng_state()
    fitted, again = (fit_invariant(fit, validation, replace(PLAN)) for _ in range(2))
    scores, poisoned = fitted.scores(unseen).numpy(), unseen.poisoned.numpy()
    assert area_under_curve(scores[~poisoned], scores[poisoned]) > 0.8
    assert torch.equal(fitted.scores(unseen), again.scores(unseen))
    assert torch.equal(state, torch.get_rng_state())
