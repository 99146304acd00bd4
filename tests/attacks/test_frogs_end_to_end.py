"""The end-to-end attack of Poison Frogs on made-up images, with networks of a few steps."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")
pytest.importorskip("onnxscript")

from made_up_zoos import make_images  # noqa: E402
from safetensors.torch import save  # noqa: E402

from reference_attacks.detectors.training_data.cases import read_folder  # noqa: E402
from reference_attacks.networks import make_network  # noqa: E402
from reference_attacks.poison_frogs.crafting import CraftingPlan  # noqa: E402
from reference_attacks.poison_frogs.end_to_end import EndToEndFolder, Setting, _grouped  # noqa: E402
from reference_attacks.poison_frogs.exporting import export_victims  # noqa: E402
from reference_attacks.poison_frogs.last_layers import angles_between  # noqa: E402
from reference_attacks.poison_frogs.poison_sets import trial_poisons  # noqa: E402
from reference_attacks.poison_frogs.projection import project  # noqa: E402
from reference_attacks.poison_frogs.trials import Trial, choose_bases, choose_target  # noqa: E402
from reference_attacks.poison_frogs.victims import (  # noqa: E402
    PoisonedSet,
    VictimTraining,
    boundary,
    train_victims,
)
from reference_attacks.training import as_input, predict  # noqa: E402
from reference_attacks.zoo.machine import Machine  # noqa: E402

SHAPE, CLASSES = (3, 24, 24), 3
CPU = Machine(device="cpu", workers=1, group=1, precision="float32")
PLAN = CraftingPlan(iterations=2, similarity=0.0, learning_rate=1e-3)


def make_trial(**changes: object) -> Trial:
    return Trial(**{"target_class": 0, "base_class": 1, "number": 0, "poisons": 2, "opacity": 0.3} | changes)


def make_data(count: int = 30, seed: int = 0):
    return make_images(count, SHAPE, CLASSES, seed)


def make_alexnet(seed: int = 0):
    return make_network("small-alexnet", SHAPE, CLASSES, seed=seed).eval()


def test_names_tell_trials_apart_and_share_poisons_between_numbers_of_them():
    trials = [
        make_trial(),
        make_trial(poisons=3),
        make_trial(opacity=0.2),
        make_trial(targets="outlier"),
        make_trial(optimised=False),
        make_trial(diverse=False),
        make_trial(number=1),
    ]
    assert len({trial.name for trial in trials}) == len(trials)
    assert trials[0].poison_set == trials[1].poison_set
    assert len({trial.poison_set for trial in trials[1:]}) == len(trials) - 1
    with pytest.raises(ValueError, match="different classes"):
        make_trial(base_class=0)


def test_targets_are_correctly_classified_and_outliers_the_least_confident_of_them():
    network, test = make_alexnet(), make_data(60)
    common = int(predict(network, test.images).mode().values)
    correct = (test.labels == common) & (predict(network, test.images) == common)
    base = (common + 1) % CLASSES
    trials = [make_trial(target_class=common, base_class=base, number=n) for n in range(int(correct.sum()))]
    chosen = [choose_target(trial, network, test, 0) for trial in trials]
    assert sorted(chosen) == correct.nonzero()[:, 0].tolist()
    outliers = [choose_target(replace(trial, targets="outlier"), network, test, 0) for trial in trials]
    with torch.no_grad():
        confidence = network(as_input(test.images[outliers])).softmax(1)[:, common]
    assert sorted(outliers) == sorted(chosen)
    assert torch.equal(confidence, confidence.sort().values)
    with pytest.raises(ValueError, match="has no target"):
        choose_target(replace(trials[0], number=len(trials)), network, test, 0)


def test_bases_are_of_their_class_and_those_of_fewer_poisons_come_first():
    test = make_data()
    more, fewer = (choose_bases(make_trial(poisons=count), test, 0) for count in (6, 3))
    assert more[:3].equal(fewer)
    assert (test.labels[more] == 1).all()
    assert len(more.unique()) == 6
    assert len(choose_bases(make_trial(poisons=6, diverse=False), test, 0).unique()) == 1
    with pytest.raises(ValueError, match="10 bases"):
        choose_bases(make_trial(poisons=11), test, 0)


def test_poisons_are_crafted_once_and_added_to(tmp_path: Path):
    network, test = make_alexnet(), make_data()
    plan = replace(PLAN, iterations=20, learning_rate=10.0)

    def poisons(*trials: Trial):
        return trial_poisons(tmp_path, [(trial, 0) for trial in trials], network, test, plan, seed=0, device="cpu")

    (two,) = poisons(make_trial())
    assert (two.distances[:, 1] < two.distances[:, 0]).all()
    (three,) = poisons(make_trial(poisons=3))
    assert three.images[:2].equal(two.images)
    assert len(three.images) == 3
    raw, copies, fresh = poisons(make_trial(optimised=False), make_trial(diverse=False), make_trial(number=1))
    base = test.images[raw.bases[0]].float()
    assert raw.images[0].equal((0.3 * test.images[0].float() + 0.7 * base).round().to(torch.uint8))
    assert raw.distances[:, 0].equal(raw.distances[:, 1])
    assert copies.images[0].equal(copies.images[1])
    assert copies.images[0].equal(two.images[0])
    assert not fresh.bases.equal(two.bases)


def test_victims_trained_together_are_what_they_become_alone():
    clean, training = make_data(40), VictimTraining(epochs=2, batch=8, learning_rate=1e-3)
    sets = [PoisonedSet(images=make_data(4, seed).images, label=seed) for seed in (1, 2)]

    def trained(chosen: list[int]):
        networks = [make_alexnet(number) for number in chosen]
        epochs: list[int] = []
        generators = [torch.Generator().manual_seed(number) for number in chosen]
        train_victims(
            networks,
            clean,
            [sets[number] for number in chosen],
            training,
            generators,
            machine=CPU,
            on_epoch=epochs.append,
        )
        assert epochs == [1, 2]
        return networks

    together = trained([0, 1])
    for number, network in enumerate(together):
        (alone,) = trained([number])
        for one, other in zip(network.parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)
        assert not torch.equal(network.output.weight, make_alexnet(number).output.weight)


def test_victims_learn_their_poisons():
    clean, poison = make_data(40), make_data(4, 9).images
    network = make_alexnet()
    training = VictimTraining(epochs=12, batch=8, learning_rate=1e-3)
    train_victims(
        [network],
        clean,
        [PoisonedSet(images=poison.repeat(4, 1, 1, 1), label=2)],
        training,
        [torch.Generator().manual_seed(0)],
        machine=CPU,
    )
    assert (predict(network, poison) == 2).all()


def test_the_angle_between_boundaries_is_exact_for_small_ones():
    first = torch.tensor([1.0, 0.0], dtype=torch.float64)
    for degrees in (0.0, 1e-5, 30.0, 90.0, 180.0):
        angle = torch.deg2rad(torch.tensor(degrees, dtype=torch.float64))
        second = 7 * torch.stack([angle.cos(), angle.sin()])
        assert float(angles_between(first, second)) == pytest.approx(degrees, rel=1e-6, abs=1e-9)


def test_the_projection_keeps_the_side_of_the_boundary():
    network, images = make_alexnet(), make_data(30)
    groups = {
        "target class": images.of_class(0).images,
        "base class": images.of_class(1).images,
        "all": images.images,
    }
    projection = project(network, groups, 0, 1)
    with torch.no_grad():
        logits = network(as_input(images.images))
    margins = (logits[:, 1] - logits[:, 0]).double()
    points = torch.tensor(projection["points"]["all"], dtype=torch.float64)
    normal = torch.tensor(projection["boundary"], dtype=torch.float64)
    torch.testing.assert_close(points @ normal, margins, atol=0.01, rtol=0.01)
    centroids = [torch.tensor(projection["points"][f"{name} class"]).mean(0) for name in ("target", "base")]
    assert centroids[1][0] > centroids[0][0]
    assert centroids[1][1] == pytest.approx(float(centroids[0][1]), abs=0.01)
    assert len(boundary(network, 1, 0)) == 193


def test_groups_have_victims_of_as_many_poisons():
    trials = [make_trial(number=number, poisons=poisons) for number in range(3) for poisons in (1, 2)]
    groups = _grouped(trials, 2)
    assert [{trial.poisons for trial in group} for group in groups] == [{1}, {2}, {1}, {2}]
    assert sorted(len(group) for group in groups) == [1, 1, 2, 2]


def test_a_run_goes_on_where_it_stopped(tmp_path: Path):
    data = {"train": make_data(60), "test": make_data(60, 1)}
    arrays = {f"{part}/{name}": getattr(images, name) for part, images in data.items() for name in ("images", "labels")}
    (tmp_path / "images.safetensors").write_bytes(save(arrays, metadata={"task": "cifar10"}))
    setting = Setting(
        clean_steps=20,
        train_images=30,
        evaluation_images=20,
        victims=VictimTraining(epochs=2, batch=8, learning_rate=1e-3),
        crafting=PLAN,
    )
    folder = EndToEndFolder(path=tmp_path, name="tiny", setting=setting, seed=0, machine=CPU)
    common = None
    folder.build([], None)
    before = folder.before()
    common = int(predict(before.clean, data["test"].images).mode().values)
    trials = [make_trial(target_class=common, base_class=(common + 1) % 3, poisons=count) for count in (2, 1)]
    folder.build(trials[:1], None)
    written = (tmp_path / "tiny" / "victims" / f"{trials[0].name}.json").stat().st_mtime_ns
    folder.build(trials, None)
    assert (tmp_path / "tiny" / "victims" / f"{trials[0].name}.json").stat().st_mtime_ns == written
    record = folder.record(trials[1])
    assert record is not None
    assert record["success"] == (record["predicted"] == trials[1].base_class)
    assert torch.tensor(record["logits"]["clean"]).argmax() == common
    assert [len(values) for values in record["rotation"].values()] == [2, 2]
    assert 0 <= record["clean_accuracy"] <= 1
    assert len(record["projection"]["victim"]["points"]["poisons"]) == 1
    accuracies = json.loads((tmp_path / "tiny" / "control.json").read_text())["clean_accuracy"]
    assert set(accuracies) == {"clean", "control"}
    export_victims(folder, trials[:1], tmp_path / "files")
    card = json.loads((tmp_path / "files" / trials[0].name / "model.json").read_text())
    again = folder.record(trials[0])
    assert again is not None
    assert (card["target_image"], card["predicted"]) == (again["target"], again["predicted"])
    assert card["matrix"]["success"] == again["success"]
    case = read_folder(tmp_path / "files" / trials[0].name)
    assert case.poisons == ("30", "31")
    assert not read_folder(tmp_path / "files" / "control").poisons
    earlier = read_folder(tmp_path / "files" / f"{trials[0].name}-before")
    assert (earlier.poisons, earlier.model.name) == (case.poisons, "before.onnx")
    written = (case.model).stat().st_mtime_ns
    export_victims(folder, trials[:1], tmp_path / "files")
    assert case.model.stat().st_mtime_ns == written
    with pytest.raises(ValueError, match="another setting"):
        replace(folder, setting=replace(setting, train_images=27)).build(trials, None)
