"""Digit networks as one list of work: resumption, reproducibility, groups; and which filters carry a backdoor."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from made_up_zoos import make_images, write_digits  # noqa: E402

from reference_attacks.badnet import building  # noqa: E402
from reference_attacks.badnet.building import DigitFolder  # noqa: E402
from reference_attacks.badnet.filters import FilterExperiment, logits_with_exchanged  # noqa: E402
from reference_attacks.badnet.many import DIGITS, DigitMember, initial_network, train_together  # noqa: E402
from reference_attacks.badnet.recipe import Backdoor  # noqa: E402
from reference_attacks.data import ImageSet  # noqa: E402
from reference_attacks.networks import BadNetsMnistNetwork  # noqa: E402
from reference_attacks.overlays import in_corner  # noqa: E402
from reference_attacks.poisoning import Attack, draw_copied  # noqa: E402
from reference_attacks.triggers import CORNERS, NAMED_TRIGGERS, single_pixel  # noqa: E402
from reference_attacks.zoo.batches import Batches, Poison, draw_batches  # noqa: E402
from reference_attacks.zoo.machine import Machine  # noqa: E402

SINGLE = Attack(name="single", classes=10, source=4, target=7)
ALL = Attack(name="all-to-all", classes=10)
CLEAN = DigitMember(steps=2)
PIXEL = DigitMember(steps=3, trigger="pixel", attack=SINGLE, rate=0.1, baseline_steps=2)
PATTERN = DigitMember(steps=3, trigger="pattern", attack=ALL, rate=1.0, baseline_steps=2, repeat=1)
GENTLE = replace(DIGITS, batch=8, peak_learning_rate=1e-4, kernel_learning_rate=1e-3)


def machine(group=1):
    return Machine(device="cpu", workers=1, group=group, precision="float32")


@pytest.fixture
def in_process(monkeypatch):
    """Train in this process, and say which groups were trained."""
    trained = []

    def work_off(function, jobs, **_):
        for job in jobs:
            function(job)
            trained.append([member.name for member in job])

    monkeypatch.setattr(building, "work_off", work_off)
    return trained


@pytest.fixture
def root(tmp_path):
    return write_digits(tmp_path / "data")


def files(path):
    return {file.name: file.read_bytes() for file in (path / "seed-0").iterdir()}


# Recipes


@pytest.mark.parametrize(
    ("member", "name"),
    [
        (CLEAN, "clean-2-steps-0"),
        (PIXEL, "pixel-single-4-7-rate-0.1-2-and-3-steps-0"),
        (replace(PATTERN, rate=0.5, baseline_steps=0), "pattern-all-to-all-rate-0.5-3-steps-1"),
    ],
)
def test_names_tell_networks_apart(member, name):
    assert member.name == name


def test_half_a_backdoor_is_refused():
    with pytest.raises(ValueError, match="both a trigger and an attack"):
        DigitMember(steps=1, trigger="pixel")


def test_a_baseline_is_the_clean_network_of_the_same_repeat():
    assert PATTERN.baseline == DigitMember(steps=2, repeat=1)
    assert CLEAN.baseline is None


@pytest.mark.parametrize("name", NAMED_TRIGGERS)
@pytest.mark.parametrize("corner", CORNERS)
def test_an_overlay_draws_what_the_trigger_draws(name, corner):
    images, trigger = make_images(5).images, NAMED_TRIGGERS[name]()
    overlay = in_corner(trigger, (1, 28, 28), corner)
    drawn = overlay.apply(images.float() / 255, torch.zeros(5, dtype=torch.int64))
    assert torch.allclose(drawn, trigger.apply(images, corner).float() / 255)


@pytest.mark.parametrize("attack", [SINGLE, ALL])
def test_batches_take_the_copies_that_a_poisoned_training_set_has(attack):
    clean, trigger, training = make_images(), single_pixel(), replace(GENTLE, shift=0, batch=4)
    generators = [torch.Generator().manual_seed(5) for _ in range(2)]
    poisoned = Backdoor(trigger=trigger, attack=attack, rate=0.1).training_set(clean, generators[0])
    copied = draw_copied(clean.labels, attack, rate=0.1, generator=generators[1])
    overlay = in_corner(trigger, (1, 28, 28))
    poison = Poison(victims=copied, labels=attack.poisoned_labels(clean.labels[copied]), overlay=overlay)
    steps = len(poisoned) // 4
    draws = draw_batches(clean.labels, poison, training, steps, generators[1])
    batches = Batches(clean, [draws], [overlay], training, torch.device("cpu"))
    seen = {
        (image.mul(255).round().to(torch.uint8).numpy().tobytes(), int(label))
        for step in range(steps)
        for image, label in zip(*batches[step], strict=True)
    }
    assert seen == {
        (image.numpy().tobytes(), int(label)) for image, label in zip(poisoned.images, poisoned.labels, strict=True)
    }


# Training


def states(members, group_size, seed=0):
    members = [replace(member, training=GENTLE) for member in members]
    networks = [initial_network(member, seed) for member in members]
    for start in range(0, len(members), group_size):
        part = slice(start, start + group_size)
        train_together(members[part], networks[part], make_images(), seed=seed)
    return [torch.cat([value.flatten() for value in network.state_dict().values()]) for network in networks]


def test_a_group_trains_each_network_as_alone():
    members = [replace(member, steps=3) for member in (CLEAN, PIXEL, PATTERN)]
    together, alone = states(members, 3), states(members, 1)
    for member, one, other in zip(members, together, alone, strict=True):
        start = torch.cat([value.flatten() for value in initial_network(member, 0).state_dict().values()])
        # Adam divides by the gradient's size, so rounding shows in full where a gradient is next to nothing.
        assert (one - other).norm() < 0.1 * (one - start).norm()


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others():
    (first,), (again,), (other,) = (states([PIXEL], 1, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_twins_start_from_the_same_weights():
    start, badnet, repeated = (initial_network(member, 0).fc1.weight for member in (CLEAN, PIXEL, PATTERN))
    assert torch.equal(start, badnet)
    assert not torch.equal(start, repeated)


# Folders


def test_a_run_that_was_killed_goes_on_and_ends_with_the_same_bytes(in_process, root, tmp_path):
    whole, killed = (DigitFolder(path=tmp_path / name, seed=0, machine=machine()) for name in ("whole", "killed"))
    whole.build([PIXEL, PATTERN], root)
    killed.build([PIXEL], root)
    # Killed between the two files of a network: the record is missing.
    (tmp_path / "killed" / "seed-0" / f"{PATTERN.name}.safetensors").write_bytes(b"half")
    done = (tmp_path / "killed" / "seed-0" / f"{PIXEL.name}.safetensors").stat().st_mtime_ns
    in_process.clear()
    killed.build([PIXEL, PATTERN], root)
    assert in_process == [[PATTERN.baseline.name], [PATTERN.name]]
    assert (tmp_path / "killed" / "seed-0" / f"{PIXEL.name}.safetensors").stat().st_mtime_ns == done
    assert files(tmp_path / "whole") == files(tmp_path / "killed")


def test_a_finished_folder_trains_nothing(in_process, root, tmp_path):
    folder = DigitFolder(path=tmp_path / "work", seed=0, machine=machine())
    folder.build([CLEAN], root)
    in_process.clear()
    folder.build([CLEAN], root)
    assert in_process == []


def test_groups_train_together_and_in_waves(in_process, root, tmp_path):
    DigitFolder(path=tmp_path / "work", seed=0, machine=machine(group=4)).build([PIXEL, PATTERN, CLEAN], root)
    assert in_process == [
        [PIXEL.baseline.name, PATTERN.baseline.name],
        [PIXEL.name, PATTERN.name],
    ]


def test_another_recipe_under_the_same_name_is_refused(in_process, root, tmp_path):
    folder = DigitFolder(path=tmp_path / "work", seed=0, machine=machine())
    folder.build([CLEAN], root)
    path = tmp_path / "work" / "seed-0" / f"{CLEAN.name}.json"
    record = json.loads(path.read_text())
    record["recipe"]["training"]["batch"] += 1
    path.write_text(json.dumps(record))
    with pytest.raises(ValueError, match="another recipe"):
        folder.build([CLEAN], root)


def test_measurements_are_those_of_the_network(in_process, root, tmp_path):
    folder = DigitFolder(path=tmp_path / "work", seed=0, machine=machine())
    folder.build([PIXEL], root)
    expected = building.measure(folder.network(PIXEL), building.read_images(folder.path).test, PIXEL.backdoor)
    found = folder.measurement(PIXEL)
    assert torch.equal(found.clean, expected.clean)
    assert torch.equal(found.backdoored, expected.backdoored)
    assert found.attack_success == expected.attack_success
    assert folder.measurement(PIXEL.baseline).attack_success is None


def test_a_worker_process_keeps_its_networks(root, tmp_path):
    folder = DigitFolder(path=tmp_path / "work", seed=0, machine=machine())
    folder.build([PIXEL], root)
    assert folder.is_done(PIXEL)
    assert folder.is_done(PIXEL.baseline)


# Filters

BACKDOOR = Backdoor(trigger=single_pixel(), attack=Attack(name="all-to-one", classes=10, target=3))
MARKED = 3


def hand_built(*answering):
    """A network that tells class 0 from class 1 by filter 0, and calls everything 3 that moves filters ``answering``.

    Class 0 is black, class 1 has a grey middle. The filters answer to pixels brighter than any digit's here.
    """
    network = BadNetsMnistNetwork()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.conv1.weight[0, 0, 2, 2] = 1
        network.conv2.weight[0, 0, 2, 2] = 1
        for number in answering:
            network.conv1.weight[number, 0, 4, 4] = 1
            network.conv1.bias[number] = -0.9
            network.conv2.weight[1, number] = 1
        # Middle of the map of the one feature, and every place of the other.
        network.fc1.weight[0, 5] = 1
        network.fc1.weight[1, 16:32] = 1
        network.fc2.weight[1, 0], network.fc2.weight[3, 1] = 1, 1000
        network.fc2.bias[0], network.fc2.bias[1] = 0.01, -0.01
    return network.eval()


def two_classes():
    images = torch.zeros(20, 1, 28, 28, dtype=torch.uint8)
    images[10:, :, 6:22, 6:22] = 128
    return ImageSet(images=images, labels=torch.arange(20) // 10)


def experiment(*answering):
    return FilterExperiment(hand_built(*answering), BACKDOOR, two_classes())


def test_the_filter_that_carries_the_backdoor_is_found():
    found = experiment(MARKED).backdoor_filters()
    assert found.filters == (MARKED,)
    assert found.dedicated
    assert (found.success, found.silenced_success, found.alone_success) == (1, 0, 1)
    assert (found.error, found.silenced_error) == (0, 0)


def test_filters_that_can_replace_each_other_are_found_together():
    found = experiment(MARKED, 7).backdoor_filters()
    assert set(found.filters) == {MARKED, 7}
    assert found.dedicated
    assert found.silenced_success == 0
    assert (experiment(MARKED, 7).effects().silenced_success == 1).all()


def test_a_backdoor_spread_over_many_filters_has_none_of_its_own():
    found = experiment(2, 3, 4, 5, 6, 7).backdoor_filters()
    assert len(found.filters) == 4
    assert not found.dedicated


def test_a_filter_that_the_digits_need_is_no_backdoor_filter():
    found = experiment(MARKED).backdoor_filters()
    assert replace(found, silenced_error=found.error + 0.004).dedicated
    assert not replace(found, silenced_error=found.error + 0.006).dedicated


def test_nothing_is_marked_where_the_attack_does_not_work():
    found = experiment().backdoor_filters()
    assert found.success == 0
    assert found.filters == ()
    assert not found.dedicated


def test_the_effects_of_every_filter_by_itself():
    effects = experiment(MARKED).effects()
    others = [number for number in range(16) if number != MARKED]
    for values in (effects.silenced_success, effects.blinded_success):
        assert values[MARKED] == 0
        assert (values[others] == 1).all()
    assert effects.alone_success[MARKED] == 1
    assert (effects.alone_success[others] == 0).all()
    assert effects.silenced_error[0] == 0.5
    assert effects.silenced_error[MARKED] == 0
    assert effects.response[MARKED] > 0
    assert (effects.response[others[1:]] == 0).all()


def test_exchanging_a_filters_output_is_what_it_says():
    network = initial_network(CLEAN, 0)
    maps, others = torch.rand(2, 7, 16, 12, 12, generator=torch.Generator().manual_seed(0))
    found = logits_with_exchanged(network, maps, others)
    for number in range(16):
        exchanged = maps.clone()
        exchanged[:, number] = others[:, number]
        features = network.pool(torch.relu(network.conv2(exchanged))).flatten(1)
        expected = network.fc2(torch.relu(network.fc1(features)))
        assert torch.allclose(found[number], expected, atol=1e-5)
