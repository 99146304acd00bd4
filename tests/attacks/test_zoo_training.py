"""Training: a group gives what each of its networks gives alone, and the same seed the same weights."""

from __future__ import annotations

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from made_up_zoos import (  # noqa: E402
    FAMILY_NAMES,
    make_backdoor,
    make_images,
    make_member,
    make_plan,
    make_task_images,
    make_training,
)
from safetensors.torch import load  # noqa: E402

from reference_attacks.data import ImageSet  # noqa: E402
from reference_attacks.networks import make_network  # noqa: E402
from reference_attacks.overlays import patch  # noqa: E402
from reference_attacks.zoo.batches import Batches, draw_batches  # noqa: E402
from reference_attacks.zoo.group import train_group  # noqa: E402
from reference_attacks.zoo.seeds import derived_seed  # noqa: E402
from reference_attacks.zoo.work import attack_success, clean_accuracy, train_members  # noqa: E402

CPU = torch.device("cpu")
SHAPE = (1, 28, 28)
MEMBERS = [
    make_member("clean-fit-0000"),
    make_member("poisoned-fit-0000", backdoor=make_backdoor()),
    make_member("poisoned-fit-0001", backdoor=make_backdoor(goal="all-to-all", source=None, target=None, kind="wave")),
]


@pytest.fixture(params=[(0.0, 0.0), (1e-3, 0.0), (0.0, 0.9)], ids=["AdamW", "Muon", "SGD"])
def gentle(request):
    """Few images in a batch, and learning slow enough that rounding does not grow."""
    kernels, momentum = request.param
    return make_training(
        batch=4, peak_learning_rate=1e-4, kernel_learning_rate=kernels, label_smoothing=kernels, momentum=momentum
    )


def made(training, family="plain"):
    return [replace(member, family=family, training=training) for member in MEMBERS]


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_a_group_of_three_trains_each_network_as_alone(family, gentle):
    plan, images, members = make_plan(), make_task_images(), made(gentle, family)
    together = train_members(plan, members, images, "cpu")
    assert [trained.name for trained in together] == [member.name for member in members]
    for number, member in enumerate(members):
        (alone,) = train_members(plan, [member], images, "cpu")
        initial = make_network(family, SHAPE, 10, seed=derived_seed(plan.seed, f"{member.name}/weights")).state_dict()
        found, expected = load(together[number].weights), load(alone.weights)
        assert found.keys() == expected.keys() == initial.keys()
        moved, apart = {}, {}
        for name, value in expected.items():
            moved[name], apart[name] = (value - initial[name]).float().norm(), (value - found[name]).float().norm()
            assert moved[name] > 0, name
        # Adam divides by the gradient's size, so rounding shows in full where a gradient is next to nothing: the whole
        # network is compared, by how far training has moved it.
        assert torch.stack([*apart.values()]).norm() < 0.1 * torch.stack([*moved.values()]).norm()


@pytest.mark.parametrize("count", [1, 3])
def test_batch_normalisation_counts_its_batches_and_keeps_their_averages(count, gentle):
    members = made(gentle, "vgg")[:count]
    for trained in train_members(make_plan(), members, make_task_images(), "cpu"):
        weights = load(trained.weights)
        counters = [value for name, value in weights.items() if name.endswith("num_batches_tracked")]
        assert counters
        assert all(value == 3 for value in counters)
        means = [value for name, value in weights.items() if name.endswith("running_mean")]
        assert all(value.abs().max() > 0 for value in means)


@pytest.mark.parametrize("count", [1, 3])
def test_training_is_reproducible_and_leaves_the_global_generator_alone(count, gentle):
    plan, images, state = make_plan(), make_task_images(), torch.get_rng_state()
    first, again = (train_members(plan, made(gentle)[:count], images, "cpu") for _ in range(2))
    assert first == again
    assert torch.equal(state, torch.get_rng_state())
    other = train_members(make_plan(seed=4), made(gentle)[:count], images, "cpu")
    assert all(one.weights != two.weights for one, two in zip(first, other, strict=True))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("count", [1, 2])
def test_networks_learn_what_their_batches_say(precision, count):
    """Two classes, dark and bright images, are told apart after a few steps."""
    labels = torch.arange(64) % 2
    images = (20 + 200 * labels)[:, None, None, None].expand(64, *SHAPE).to(torch.uint8).contiguous()
    data, training = ImageSet(images=images, labels=labels), make_training(batch=16, peak_learning_rate=3e-3)
    networks = [make_network("plain", SHAPE, 2, seed=seed) for seed in range(count)]
    draws = [draw_batches(labels, None, training, 30, torch.Generator().manual_seed(seed)) for seed in range(count)]
    train_group(networks, Batches(data, draws, [None] * count, training, CPU), training, precision=precision)
    for network in networks:
        assert not network.training
        assert all(value.dtype == torch.float32 for value in network.state_dict().values())
        assert clean_accuracy(network, data, "cpu") == 1


@pytest.mark.parametrize("steps", range(1, 12))
def test_any_number_of_steps_can_be_trained(steps, gentle):
    member = make_member(steps=steps, training=gentle)
    (trained,) = train_members(make_plan(), [member], make_task_images(), "cpu")
    assert trained.record["steps"] == steps
    assert all(value.isfinite().all() for value in load(trained.weights).values())


def trained_alone(**changes):
    networks, data, training = [make_network("vgg", SHAPE, 10)], make_images(), make_training(batch=4, **changes)
    draws = draw_batches(data.labels, None, training, 3, torch.Generator().manual_seed(0))
    train_group(networks, Batches(data, [draws], [None], training, CPU), training, precision="float32")
    return networks[0].state_dict()


@pytest.mark.parametrize(
    "changes", [{"weight_decay": 0.5}, {"kernel_learning_rate": 0.01}, {"label_smoothing": 0.2}, {"momentum": 0.9}]
)
def test_each_setting_of_the_recipe_changes_the_weights(changes):
    assert not torch.equal(trained_alone()["output.weight"], trained_alone(**changes)["output.weight"])


def test_muon_moves_kernels_and_leaves_the_rest_to_adam():
    steps = [trained_alone(kernel_learning_rate=rate, peak_learning_rate=1e-9) for rate in (0.0, 0.01)]
    moved = {name for name, value in steps[0].items() if (value - steps[1][name]).float().abs().max() > 1e-4}
    parameters = {name for name in moved if not name.endswith(("running_mean", "running_var"))}
    assert parameters == {f"features.{number}.0.weight" for number in range(5)}


class BrightCorner(torch.nn.Module):
    """Says class 7 of an image with a white pixel in any corner region, else class 0."""

    def forward(self, images):
        white = (images == 1).flatten(1).any(1)
        return torch.nn.functional.one_hot(torch.where(white, 7, 0), 10).float()


@pytest.mark.parametrize(
    ("backdoor", "success"),
    [
        (make_backdoor(), 1.0),
        (make_backdoor(target=6), 0.0),
        (make_backdoor(goal="all-to-one", source=None), 1.0),
        (make_backdoor(goal="all-to-all", source=None, target=None), 0.1),  # it wants 7 of class 6 alone
    ],
)
def test_attack_success_is_the_share_of_attacked_images_that_obey(backdoor, success):
    test, overlay = make_images(), patch(torch.ones(1, 5, 5), SHAPE, "corners")
    member = make_member(backdoor=backdoor)
    assert attack_success(make_plan(), member, BrightCorner(), overlay, test, 10, "cpu") == pytest.approx(success)
    assert clean_accuracy(BrightCorner(), test, "cpu") == pytest.approx(0.1)


def test_records_hold_what_the_network_is_and_how_it_does(gentle):
    clean, poisoned, _ = train_members(make_plan(), made(gentle), make_task_images(), "cpu")
    assert clean.record["attack_success"] is None
    assert clean.record["backdoor"] is None
    assert 0 <= poisoned.record["attack_success"] <= 1
    assert 0 <= poisoned.record["clean_accuracy"] <= 1
    backdoor = {"goal": "source-target", "kind": "patch5", "number": 0, "ratio": 0.5, "source": 4, "target": 7}
    assert poisoned.record["backdoor"] == backdoor
