"""Last layers trained as one program are those that torch trains one by one."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch

from reference_attacks.poison_frogs.last_layers import (
    Attacks,
    FeatureSet,
    LastLayerPlan,
    angles_between,
    train_last_layers,
)

DIMENSION, COUNT, CLASSES = 40, 30, 3
PLAN = LastLayerPlan(epochs=4, batch=8)


def made_up(seed=0):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(COUNT) % CLASSES
    features = torch.randn(COUNT, DIMENSION, generator=generator).relu() + 0.2 * labels[:, None]
    return FeatureSet(features=features, labels=labels), generator


def made_up_attacks(count, generator):
    bases = torch.arange(count) % CLASSES
    poisons = torch.randn(count, DIMENSION, generator=generator).relu()
    return Attacks(poisons=poisons, bases=bases, targets=(bases + 1) % CLASSES)


def by_autograd(clean, attacks, number):
    """One layer trained by torch alone; number None is the clean twin."""
    generator = torch.Generator().manual_seed(9)
    layer = torch.nn.Linear(DIMENSION, CLASSES)
    with torch.no_grad():
        layer.weight.copy_(0.001 * torch.randn(CLASSES, DIMENSION, generator=generator))
        layer.bias.zero_()
    orders = [torch.randperm(COUNT, generator=generator) for _ in range(PLAN.epochs)]
    places = torch.randint(-(-COUNT // PLAN.batch), (PLAN.epochs, len(attacks)), generator=generator)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.01)
    for epoch, order in enumerate(orders):
        for step, chosen in enumerate(order.split(PLAN.batch)):
            features, labels = clean.features[chosen], clean.labels[chosen]
            if number is not None and places[epoch, number] == step:
                features = torch.cat([features, attacks.poisons[number, None]])
                labels = torch.cat([labels, attacks.bases[number, None]])
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(layer(features), labels).backward()
            optimizer.step()
    return layer.weight.detach(), layer.bias.detach()


@pytest.mark.parametrize("chunk", [1, 3, 64])
def test_layers_are_those_that_torch_trains_alone(chunk):
    clean, generator = made_up()
    attacks = made_up_attacks(5, generator)
    found = train_last_layers(clean, attacks, CLASSES, PLAN, torch.Generator().manual_seed(9), chunk=chunk)
    twin_weights, twin_biases = by_autograd(clean, attacks, None)
    assert torch.allclose(found.clean_weights, twin_weights, atol=1e-5)
    assert torch.allclose(found.clean_biases, twin_biases, atol=1e-5)
    for number in range(5):
        weights, biases = by_autograd(clean, attacks, number)
        assert torch.allclose(found.weights[number], weights, atol=1e-5)
        assert torch.allclose(found.biases[number], biases, atol=1e-5)
        base, target = attacks.bases[number], attacks.targets[number]
        cosine = torch.cosine_similarity(weights[base] - weights[target], twin_weights[base] - twin_weights[target], 0)
        assert found.angles[number, -1] == pytest.approx(float(cosine.acos().rad2deg()), abs=0.02)
    assert found.angles.shape == (5, PLAN.epochs)


def test_a_poison_turns_the_boundary_and_takes_the_target_with_it():
    clean, generator = made_up()
    target = torch.randn(DIMENSION, generator=generator).relu() + 0.5
    attacks = Attacks(poisons=target[None] + 0.01, bases=torch.tensor([0]), targets=torch.tensor([1]))
    found = train_last_layers(clean, attacks, CLASSES, LastLayerPlan(epochs=200), generator)
    assert (found.clean_weights @ target + found.clean_biases).argmax() != 0
    assert (found.weights[0] @ target + found.biases[0]).argmax() == 0
    assert found.angles[0, -1] > 1


def test_no_attacks_leave_the_clean_twin():
    clean, generator = made_up()
    found = train_last_layers(clean, made_up_attacks(0, generator), CLASSES, PLAN, generator)
    assert found.weights.shape == (0, CLASSES, DIMENSION)
    assert found.angles.shape == (0, PLAN.epochs)
    assert found.clean_weights.isfinite().all()


def test_angles():
    some = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    others = torch.tensor([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0], [1.0, 1e-4]])
    expected = [0.0, 90.0, 180.0, torch.tensor(1e-4).rad2deg().item()]
    assert angles_between(some, others).tolist() == pytest.approx(expected, rel=1e-4)
