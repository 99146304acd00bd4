"""The transfer attack on classifiers of signs: neurons, strengthening and heads that are retrained together."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from reference_attacks.data import ImageSet  # noqa: E402
from reference_attacks.traffic_signs import countries as countries_module  # noqa: E402
from reference_attacks.traffic_signs.classifier_transfer import (  # noqa: E402
    TransferPlan,
    measure_transfer,
    predicted_by,
    retrain,
)
from reference_attacks.traffic_signs.classifiers import (  # noqa: E402
    ClassifierRecipe,
    last_features,
    new_classifier,
    sticker_overlay,
    strengthen,
    train_classifier,
)
from reference_attacks.traffic_signs.countries import Country, grouped, load_countries  # noqa: E402
from reference_attacks.traffic_signs.heads import HeadPlan, Heads  # noqa: E402
from reference_attacks.traffic_signs.neurons import compare_activations, separation, strengths  # noqa: E402


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_images(count: int, classes: int, seed: int = 0) -> ImageSet:
    draw = generator(seed)
    images = torch.randint(256, (count, 3, 32, 32), generator=draw, dtype=torch.uint8)
    return ImageSet(images=images, labels=torch.arange(count) % classes)


def worn_in_classifier(classes: int = 5):
    """A network whose normalisation has seen images, so that its running averages matter."""
    network = new_classifier(classes, seed=1).train()
    with torch.no_grad():
        for seed in range(3):
            network(random_images(32, classes, seed).images.float() / 255)
            for module in network.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    module.bias.add_(0.1 * torch.randn(module.bias.shape, generator=generator(seed)))
    return network.eval()


@pytest.mark.parametrize("factor", [1, 10, 100])
def test_multiplying_inputs_of_a_neuron_multiplies_its_activation(factor):
    network, images = worn_in_classifier(), random_images(8, 5).images
    before = last_features(network, images)
    assert (before == 0).any()
    neurons = torch.tensor([3, *before.mean((0, 2, 3)).topk(2).indices.tolist()])
    strengthen(network, neurons, factor)
    expected = before * strengths(neurons, 128, torch.tensor([factor]))[0, :, None, None]
    torch.testing.assert_close(last_features(network, images), expected, rtol=1e-4, atol=1e-4 * factor)


def made_up_activations(count: int = 400, channels: int = 64):
    draw = generator()
    clean = torch.rand(count, channels, generator=draw)
    backdoored = (clean + 0.1 * torch.randn(count, channels, generator=draw)).clamp(min=0)
    return clean, backdoored


def test_planted_neurons_are_found_and_no_others():
    clean, backdoored = made_up_activations()
    clean[:, [5, 9]] *= 0.1
    backdoored[:, 5] = 1 + 0.1 * backdoored[:, 5]
    backdoored[:, 9] = 2 + 0.1 * backdoored[:, 9]
    assert compare_activations(clean, backdoored).dedicated.tolist() == [9, 5]


def test_in_a_network_that_the_sticker_leaves_alone_no_neuron_is_dedicated():
    assert compare_activations(*made_up_activations()).dedicated.tolist() == []


def test_a_neuron_that_fires_without_the_sticker_too_is_not_dedicated():
    clean, backdoored = made_up_activations()
    clean[:, 5] += 2
    backdoored[:, 5] += 4
    found = compare_activations(clean, backdoored)
    assert found.separation[5] > 0.99
    assert found.dedicated.tolist() == []


def test_a_neuron_that_tells_little_is_not_dedicated():
    clean, backdoored = made_up_activations()
    clean[:, 5] = 0
    backdoored[:, 5] = 0
    backdoored[:200, 5] = 20
    found = compare_activations(clean, backdoored)
    assert found.separation[5] == pytest.approx(0.75)
    assert found.dedicated.tolist() == []


def test_separation_is_the_share_of_pairs_in_the_right_order():
    draw = generator()
    clean, backdoored = (torch.randint(high, (30, 4), generator=draw).float() for high in (6, 9))
    pairs = (backdoored[:, None] > clean).double() + (backdoored[:, None] == clean).double() / 2
    torch.testing.assert_close(separation(clean, backdoored), pairs.mean((0, 1)).float())


def test_heads_retrained_together_are_those_retrained_alone():
    features = torch.rand(40, 6, 2, 2, generator=generator())
    labels = torch.arange(40) % 3
    factors = strengths(torch.tensor([1, 4]), 6, torch.tensor([1, 20]))
    plan = HeadPlan(steps=12, hidden=(7, 5), batch_size=8, peak_learning_rate=1e-2)
    heads = Heads((24, 7, 5, 3), copies=2, generators=[generator(1), generator(2)])
    retrain(features, labels, heads, factors, plan, [generator(3), generator(4)])
    together = predicted_logits(heads, features, factors)
    for copy in range(2):
        for seed in range(2):
            alone = Heads((24, 7, 5, 3), copies=1, generators=[generator(1 + seed)])
            start = predicted_logits(alone, features, factors[copy : copy + 1])
            retrain(features, labels, alone, factors[copy : copy + 1], plan, [generator(3 + seed)])
            found = predicted_logits(alone, features, factors[copy : copy + 1])
            assert (found - start).abs().max() > 0.01
            torch.testing.assert_close(found[0], together[2 * copy + seed], rtol=1e-3, atol=1e-4)


def predicted_logits(heads, features, factors):
    scaled = (features * factors[:, None, :, None, None]).flatten(2).repeat_interleave(heads.seeds, 0)
    return heads(scaled).detach()


def test_predictions_are_ordered_by_strength_and_seed():
    features = torch.rand(5, 6, 2, 2, generator=generator())
    factors = strengths(torch.tensor([0]), 6, torch.tensor([1, 5, 9]))
    heads = Heads((24, 4), copies=3, generators=[generator(1), generator(2)])
    expected = predicted_logits(heads, features, factors).argmax(2)
    assert predicted_by(heads, features, factors).flatten(0, 1).tolist() == expected.tolist()


def test_heads_start_as_linear_layers_do():
    heads = Heads((400, 300, 2), copies=2, generators=[generator()])
    first = heads.weights[0]
    assert first.shape == (2, 400, 300)
    assert torch.equal(first[0], first[1])
    assert first.abs().max() <= 0.05
    assert first.std().item() == pytest.approx(0.05 / 3**0.5, rel=0.02)


def test_no_kind_of_sign_is_in_both_countries(monkeypatch):
    monkeypatch.setattr(countries_module, "load_gtsrb", lambda root, train: random_images(86, 43, seed=int(train)))
    first, second = load_countries()
    assert (len(first.classes), len(second.classes)) == (22, 21)
    assert not set(first.classes) & set(second.classes)
    assert second.classes[:2] == ("speed limit 30", "speed limit 60")
    assert torch.bincount(second.train.labels).tolist() == [2] * 21
    groups = grouped(second)
    assert groups.classes == ("prohibitory", "mandatory", "danger", "other")
    assert {groups.classes[label] for label in groups.test.labels[second.test.labels == 0].tolist()} == {"prohibitory"}
    assert groups.classes[groups.test.labels[second.classes.index("give way")]] == "other"


def test_the_sticker_is_a_quarter_of_the_sign_wide_and_lies_at_its_bottom():
    overlay = sticker_overlay()
    covered = overlay.keep[0, 0] == 0
    assert len(overlay) == 1
    assert covered.sum() == 36
    rows, columns = covered.nonzero().unbind(1)
    assert (rows.min(), rows.max()) == (21, 26)
    assert (columns.min(), columns.max()) == (13, 18)
    red, green, blue = overlay.add[0][:, covered].mean(1)
    assert red > 0.8
    assert green > 0.7
    assert blue < 0.3
    assert len(sticker_overlay(jitter=(1, 2))) == 15


def test_a_poisoned_copy_never_keeps_its_label(monkeypatch):
    seen = []
    import reference_attacks.traffic_signs.classifiers as module

    def remember(networks, batches, task, precision):
        for step in range(len(batches)):
            images, labels = batches[step]
            seen.append((images, labels))

    monkeypatch.setattr(module, "train_group", remember)
    data = random_images(60, 3)
    # The first pixel tells the class; moves by two pixels leave the border's colours alone.
    for label in range(3):
        data.images[data.labels == label] = 80 * label
    train_classifier(
        ClassifierRecipe(seed=0, share=0.5, steps=20), Country(classes=("a", "b", "c"), train=data, test=data)
    )
    images, labels = (torch.cat(each) for each in zip(*seen, strict=True))
    truths = (images[:, 0, 0, 0] * 255 / 80).round().long()
    stickers = (images[:, 2, 23, 10:22] != images[:, 2, 0, :1]).any(1)
    assert torch.equal(labels[~stickers], truths[~stickers])
    assert (labels[stickers] != truths[stickers]).all()
    assert len({*labels[stickers & (truths == 0)].tolist()}) == 2
    assert stickers.double().mean().item() == pytest.approx(1 / 3, abs=0.05)


def test_a_share_that_is_none_is_refused():
    with pytest.raises(ValueError, match="must lie in"):
        ClassifierRecipe(seed=0, share=1.5)


def test_transfer_of_an_untrained_network_counts_every_sign():
    monkey = [
        Country(
            classes=tuple(f"{name}{number}" for number in range(3)),
            train=random_images(30, 3),
            test=random_images(9, 3),
        )
        for name in "ab"
    ]
    monkey[1] = Country(classes=("give way", "no entry", "keep left"), train=monkey[1].train, test=monkey[1].test)
    plan = TransferPlan(heads=HeadPlan(steps=3, hidden=(4,), batch_size=8), seeds=2)
    values = measure_transfer(worn_in_classifier(3), (monkey[0], monkey[1]), plan, seed=0)
    assert values["first"]["clean"]["n"] == 9
    assert [entry["strength"] for entry in values["second"]] == [1]
    assert values["second"][0]["classes"] == {"prohibitory": 0, "mandatory": 3, "danger": 0, "other": 6}
    assert len(values["kinds"]["clean"]) == 2
    assert len(values["activations"]["second"]["backdoored"]) == 128
