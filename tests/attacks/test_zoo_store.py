"""Reading a zoo back: stacks of networks give what each network gives, in the order of their records."""

from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")

from made_up_zoos import make_plan, new_zoo_folder  # noqa: E402
from test_zoo_build import in_this_process  # noqa: E402

from reference_attacks.zoo.build import build_zoo  # noqa: E402
from reference_attacks.zoo.store import load_network, load_stack, load_zoo  # noqa: E402

FAMILIES = ("vgg", "plain", "depthwise", "transformer-vgg", "resnet")
REJECTED = "poisoned-fit-0001"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A zoo of several families; all its networks are kept but one, as if they had learnt."""
    folder = new_zoo_folder(tmp_path_factory.mktemp("stored"))
    plan = make_plan(families=FAMILIES, clean_fit=5, clean_calibration=0, clean_test=0, poisoned_fit=4, poisoned_test=1)
    manifest = build_zoo(plan, folder, executor=in_this_process)
    for record in manifest["networks"]:
        record["rejected"] = "made up" if record["name"] == REJECTED else None
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture(scope="module")
def stack(folder):
    return load_stack([load_zoo(folder)], lambda record: True)


@pytest.fixture(scope="module")
def images():
    return torch.rand(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))


def names(stack):
    return [record["name"] for record in stack.records]


def test_a_zoo_tells_kept_and_rejected_networks_apart(folder):
    zoo = load_zoo(folder)
    assert [record["name"] for record in zoo.rejected] == [REJECTED]
    assert len(zoo.records) == 9
    assert (zoo.input_shape, zoo.classes) == ((1, 28, 28), 10)


def test_a_stack_holds_the_kept_networks_by_family(stack):
    assert len(stack) == 9
    assert [part.family for part in stack.parts] == sorted(FAMILIES)
    assert REJECTED not in names(stack)
    assert stack.poisoned.tolist() == [name.startswith("poisoned") for name in names(stack)]
    assert (stack.input_shape, stack.classes) == ((1, 28, 28), 10)


def test_logits_are_each_networks_own_in_the_order_of_the_records(folder, stack, images):
    logits = stack.logits(images)
    assert logits.shape == (9, 4, 10)
    for number, (network, record) in enumerate(stack.networks()):
        assert record == stack.records[number]
        with torch.no_grad():
            torch.testing.assert_close(logits[number], network(images), rtol=1e-4, atol=1e-5)
            loaded = load_network(record, (1, 28, 28), 10)
            assert torch.equal(loaded(images), network(images))
    assert len({tuple(row.tolist()) for row in logits.flatten(1)}) == 9


def test_logits_have_gradients_at_the_pixels(stack, images):
    pixels = images.clone().requires_grad_()
    stack.logits(pixels)[..., 0].sum().backward()
    assert pixels.grad.abs().amin((1, 2, 3)).min() > 0


@pytest.mark.parametrize(
    "keep",
    [
        torch.tensor([0, 3, 8]),
        torch.tensor([8, 0, 3]),
        torch.tensor([5]),
        torch.arange(9) % 2 == 0,
        torch.arange(9) < 9,
    ],
    ids=["increasing", "shuffled", "one", "mask", "all"],
)
def test_selected_networks_keep_their_records_and_logits(stack, images, keep):
    indices = torch.arange(9)[keep].sort().values
    chosen = stack.select(keep)
    assert len(chosen) == len(indices)
    assert names(chosen) == [names(stack)[index] for index in indices]
    torch.testing.assert_close(chosen.logits(images), stack.logits(images)[indices], rtol=1e-4, atol=1e-5)


def test_dropout_varies_each_network_and_each_image_and_none_is_deterministic(stack, images):
    same_image = images[:1].expand(4, -1, -1, -1)

    def varied(seed):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return stack.logits(same_image, dropout=0.5)

    first, again, other, plain = varied(0), varied(0), varied(1), stack.logits(same_image)
    assert torch.equal(first, again)
    assert torch.equal(plain, stack.logits(same_image))
    for network in range(len(stack)):
        assert not torch.equal(first[network], other[network])
        assert not torch.equal(first[network, 0], first[network, 1])
        assert (first[network] - plain[network]).abs().max() > 1e-4


def test_networks_of_one_family_drop_different_units(stack, images):
    part = next(part for part in stack.parts if len(part) == 2)
    twice = part.select([0, 0])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        logits = twice.logits(images, dropout=0.5)
    assert not torch.equal(logits[0], logits[1])


def test_only_wanted_networks_are_read_from_several_zoos(folder):
    zoos = [load_zoo(folder)] * 2
    chosen = load_stack(zoos, lambda record: record["backdoor"] is None and record["family"] in ("vgg", "resnet"))
    assert names(chosen) == ["clean-fit-0004"] * 2 + ["clean-fit-0000"] * 2
    assert not chosen.poisoned.any()


def test_a_folder_without_a_zoo_and_a_stack_without_networks_are_refused(folder, tmp_path):
    with pytest.raises(ValueError, match=r"holds no finished zoo; run zoo build first\."):
        load_zoo(tmp_path)
    with pytest.raises(
        ValueError, match=r"holds no networks of one of the kinds that are needed; build a larger one\."
    ):
        load_stack([load_zoo(folder)], lambda record: False)
