"""MetaPoison's meta-gradient against finite differences, against one graph with everything, batched and not."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

pytest.importorskip("torch")

import torch
from torch import nn
from torch.func import functional_call, grad
from torch.nn.functional import cross_entropy

from reference_attacks.metapoison.stacks import Networks, Stack, stacked
from reference_attacks.metapoison.unrolling import Aim, Batch, MetaGradient, leaves_of, meta_gradient, target_loss

CLASSES, IMAGES, SURROGATES = 3, 6, 3
OBJECTIVES, LOOKS, STATISTICS = ("cross-entropy", "margin"), ("every", "last"), ("running", "batch")


def tiny_network() -> nn.Module:
    """Convolutions, batch normalisation, a kinked and a smooth activation, two pools: 8x8 grey images."""
    network = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1, bias=False),
        nn.BatchNorm2d(3),
        nn.Softplus(),
        nn.MaxPool2d(2),
        nn.Conv2d(3, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(4, CLASSES),
    ).double()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1)
    return network


class Case:
    """Three tiny surrogates with their batches and a target."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        members = [tiny_network() for _ in range(SURROGATES)]
        self.networks = Networks(members[0], device="cpu")
        self.stack = stacked(members, "cpu")
        self.batches = [
            Batch(
                images=torch.rand(SURROGATES, IMAGES, 1, 8, 8, dtype=torch.float64),
                labels=torch.randint(CLASSES, (SURROGATES, IMAGES)),
            )
            for _ in range(4)
        ]
        self.targets = torch.rand(2, 1, 8, 8, dtype=torch.float64)
        self.rates = torch.tensor([0.3, 0.1, 0.2], dtype=torch.float64)

    def found(
        self,
        unroll: int,
        aim: Aim,
        *,
        first: torch.Tensor | None = None,
        part: slice = slice(None),
        checkpoint: bool = False,
    ) -> MetaGradient:
        batches = [Batch(images=batch.images[part], labels=batch.labels[part]) for batch in self.batches]
        if first is not None:
            batches[0] = replace(batches[0], images=first)
        return meta_gradient(
            self.networks,
            self.stack.part(part),
            batches,
            aim,
            unroll=unroll,
            rates=self.rates[part],
            checkpoint=checkpoint,
        )

    def aim(self, objective: str, looks: str, statistics: str) -> Aim:
        labels = torch.tensor([1, 2])
        return Aim(targets=self.targets, labels=labels, objective=objective, looks=looks, statistics=statistics)


@pytest.fixture(scope="module")
def case() -> Case:
    return Case()


@pytest.mark.parametrize("unroll", [1, 2, 3])
@pytest.mark.parametrize(("objective", "looks", "statistics"), list(product(OBJECTIVES, LOOKS, STATISTICS)))
def test_the_meta_gradient_is_the_one_of_finite_differences(
    case: Case, unroll: int, objective: str, looks: str, statistics: str
) -> None:
    aim = case.aim(objective, looks, statistics)
    start, step = case.batches[0].images, 1e-6
    direction = torch.randn(start.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    above, below = (case.found(unroll, aim, first=start + sign * step * direction).objective.sum() for sign in (1, -1))
    difference = (above - below) / (2 * step)
    along = (case.found(unroll, aim).gradient * direction).sum()
    assert along.abs() > 1e-6
    assert abs(along / difference - 1) < 1e-4


def one_graph(case: Case, number: int, unroll: int, aim: Aim) -> torch.Tensor:
    """The meta-gradient of one surrogate by ``torch.func`` through one program that contains everything."""
    network = tiny_network().train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats = False
    weights = {name: value[number] for name, value in case.stack.weights.items()}

    def loss(own: dict[str, torch.Tensor], images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return cross_entropy(functional_call(network, own, (images,)), labels)

    def objective(first: torch.Tensor) -> torch.Tensor:
        own, total = weights, first.new_zeros(())
        for step in range(unroll):
            images = first if step == 0 else case.batches[step].images[number]
            slopes = grad(loss)(own, images, case.batches[step].labels[number])
            own = {name: value - case.rates[number] * slopes[name] for name, value in own.items()}
            together = torch.cat([case.batches[step + 1].images[number], aim.targets])
            logits = functional_call(network, own, (together,))[-len(aim.targets) :]
            total = total + target_loss(logits[None], aim.labels, aim.objective)[0] / unroll
        return total

    return grad(objective)(case.batches[0].images[number])


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_it_equals_that_of_one_graph_with_everything_in_it(case: Case, objective: str) -> None:
    aim = case.aim(objective, "every", "batch")
    found = case.found(3, aim)
    for number in range(SURROGATES):
        assert torch.allclose(found.gradient[number], one_graph(case, number, 3, aim), rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize(("objective", "statistics"), list(product(OBJECTIVES, STATISTICS)))
def test_batched_equals_one_by_one_and_checkpointed_equals_kept(case: Case, objective: str, statistics: str) -> None:
    aim = case.aim(objective, "every", statistics)
    whole, again = case.found(2, aim), case.found(2, aim, checkpoint=True)
    alone = [case.found(2, aim, part=slice(number, number + 1)) for number in range(SURROGATES)]
    for name in ("gradient", "before", "after", "objective"):
        expected = getattr(whole, name)
        assert torch.allclose(torch.cat([getattr(one, name) for one in alone]), expected, rtol=1e-9, atol=1e-15)
        assert torch.equal(getattr(again, name), expected)


def test_surrogates_stay_as_they_are(case: Case) -> None:
    before = {name: value.clone() for name, value in {**case.stack.weights, **case.stack.buffers}.items()}
    case.found(2, case.aim("margin", "every", "batch"))
    after = {**case.stack.weights, **case.stack.buffers}
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_it_is_no_first_order_shortcut(case: Case) -> None:
    """With more steps after the poisoned one, the gradient has to pass through their second derivatives."""
    aim = case.aim("cross-entropy", "last", "running")
    short, long = case.found(1, aim).gradient, case.found(3, aim).gradient
    assert (short - long).abs().max() > 0.01 * long.abs().max()


def test_the_margin_has_a_floor_and_both_objectives_fall_with_the_wanted_logit() -> None:
    labels = torch.tensor([0])
    sure = torch.tensor([[[500.0, 0.0, 1.0]]])
    assert target_loss(sure, labels, "margin").item() == -100
    close = torch.tensor([[[3.0, 2.5, 1.0]]])
    assert target_loss(close, labels, "margin").item() == -0.5
    assert target_loss(close, labels, "cross-entropy").item() == pytest.approx(
        cross_entropy(close[0], labels).item(), rel=1e-6
    )


def test_training_updates_running_statistics_and_unrolling_does_not(case: Case) -> None:
    own = Stack(
        weights=leaves_of(case.stack.weights),
        buffers={name: value.clone() for name, value in case.stack.buffers.items()},
    )
    images = case.batches[0].images
    unrolled = case.networks.unrolled(own.weights, own.buffers, images)
    assert torch.equal(own.buffers["1.running_mean"], case.stack.buffers["1.running_mean"])
    trained = case.networks.training(own.weights, own.buffers, images)
    assert not torch.equal(own.buffers["1.running_mean"], case.stack.buffers["1.running_mean"])
    assert torch.allclose(unrolled, trained)
