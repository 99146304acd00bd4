"""One-shot kills: which images an experiment is about, what is measured, and folders that go on where they stopped."""

from __future__ import annotations

from dataclasses import replace

import pytest

pytest.importorskip("torch")
pytest.importorskip("torchvision")

import torch
from frog_sets import class_images, write_cifar10

from reference_attacks.data import ImageSet
from reference_attacks.poison_frogs import choices, transfer_folder
from reference_attacks.poison_frogs.crafting import CraftingPlan
from reference_attacks.poison_frogs.extractors import ExtractorPlan, build_extractor, without
from reference_attacks.poison_frogs.last_layers import LastLayerPlan
from reference_attacks.poison_frogs.transfer import TransferPlan, attack, craft_all, set_scene, stopping
from reference_attacks.poison_frogs.transfer_folder import Experiment, TransferFolder
from reference_attacks.subsets import of_classes

PLAN = TransferPlan(
    classes=(2, 0),
    training_images=20,
    targets=4,
    crafting=CraftingPlan(iterations=200, similarity=1e-4),
    last_layer=LastLayerPlan(epochs=60),
    seed=0,
)
EXTRACTOR = ExtractorPlan(task="cifar10", held_out=(5, 6, 8), steps=2, seed=0, precision="float32")


class MadeUpExtractor:
    """Random features, more of them than training images."""

    def __init__(self) -> None:
        self.weights = torch.randn(3 * 32 * 32, 200, generator=torch.Generator().manual_seed(0)) / 10

    def prepared(self, images):
        return images

    def features(self, images):
        return (images.flatten(1) - 0.5) @ self.weights

    def features_of(self, images):
        return self.features(images.float() / 255)


def image_set(count, seed, classes=3):
    images = [class_images(number, count, seed) for number in range(classes)]
    return ImageSet(images=torch.cat(images), labels=torch.arange(classes).repeat_interleave(count))


def test_one_poison_each_turns_every_target_and_nothing_else():
    extractor = MadeUpExtractor()
    scene = set_scene(extractor, image_set(30, 1), image_set(12, 2), PLAN)
    assert scene.clean_accuracy == 1
    assert len(scene.train_features.labels) == 40
    poisons = craft_all(extractor, scene, PLAN)
    limit = stopping(scene, PLAN).stop_distance
    assert (poisons.distances < limit).all()
    outcome = attack(extractor, scene, poisons.images, PLAN)
    assert outcome.hit.all()
    assert outcome.learnt.all()
    assert (outcome.confidence > 0.5).all()
    assert outcome.accuracy.min() >= 23 / 24 - 1e-6
    assert outcome.angles.shape == (8, 60)
    assert (outcome.angles[:, -1] > 0.1).all()
    changes = poisons.images.int() - scene.test.images[scene.pairs.bases].int()
    assert outcome.linf.tolist() == changes.abs().flatten(1).amax(1).tolist()
    assert outcome.l2[0] == pytest.approx(float((changes[0] / 255).norm()))


def test_bases_that_are_not_poisoned_turn_no_target():
    extractor = MadeUpExtractor()
    scene = set_scene(extractor, image_set(30, 1), image_set(12, 2), PLAN)
    outcome = attack(extractor, scene, scene.test.images[scene.pairs.bases], PLAN)
    assert not outcome.hit.any()
    assert outcome.l2.max() == 0


def test_targets_are_those_that_the_clean_layer_knows():
    extractor, test = MadeUpExtractor(), image_set(12, 2)
    test.labels[:3] = 2  # Three images of class 0 in the wrong folder.
    scene = set_scene(extractor, image_set(30, 1), test, replace(PLAN, targets=100))
    assert scene.clean_accuracy == pytest.approx(21 / 24)
    assert len(scene.pairs) == 21
    assert (scene.test.labels[scene.pairs.targets] != scene.test.labels[scene.pairs.bases]).all()


def test_a_distance_that_is_given_is_kept():
    plan = replace(PLAN, crafting=replace(PLAN.crafting, stop_distance=3.0))
    scene = set_scene(MadeUpExtractor(), image_set(30, 1), image_set(12, 2), plan)
    assert stopping(scene, plan).stop_distance == 3.0


# Choices


def test_classes_are_numbered_as_they_were_asked_for():
    chosen = of_classes(image_set(2, 1), (2, 0))
    assert chosen.labels.tolist() == [1, 1, 0, 0]
    assert (chosen.images[2] == image_set(2, 1).images[4]).all()


def test_other_classes_keep_their_order_without_some():
    kept = without(image_set(2, 1), (1,))
    assert kept.labels.tolist() == [0, 0, 1, 1]
    assert (kept.images[2] == image_set(2, 1).images[4]).all()


def test_images_are_drawn_without_replacement():
    chosen = choices.drawn_from_each_class(image_set(9, 1), 5, torch.Generator().manual_seed(0))
    assert chosen.labels.bincount().tolist() == [5, 5, 5]
    assert len({image.numpy().tobytes() for image in chosen.images}) == 15


def test_test_images_that_are_training_images_are_left_out():
    train, test = image_set(4, 1), image_set(4, 2)
    test.images[5] = train.images[0]
    assert len(choices.without_images_of(test, train)) == 11


def test_of_several_bases_of_a_class_the_nearest_is_taken():
    features = torch.tensor([[0.0], [10.0], [1.0], [9.0], [4.0], [5.0]])
    labels = torch.tensor([0, 0, 1, 1, 1, 0])
    pairs = choices.Pairs(targets=torch.tensor([0, 1, 3]), bases=torch.tensor([4, 4, 0]))
    nearest = choices.with_nearest_bases(pairs, features, labels, 60, torch.Generator().manual_seed(0))
    assert nearest.bases.tolist() == [2, 3, 1]
    assert torch.equal(nearest.targets, pairs.targets)
    same = choices.with_nearest_bases(pairs, features, labels, 1, torch.Generator().manual_seed(0))
    assert torch.equal(same.bases, pairs.bases)


def test_pairs_cross_the_classes_and_targets_differ():
    labels, eligible = torch.arange(30) % 3, torch.arange(30) != 0
    pairs = choices.draw_pairs(labels, eligible, 20, torch.Generator().manual_seed(0), classes=(0, 1))
    assert labels[pairs.targets].tolist() == [0] * 9 + [1] * 10
    assert labels[pairs.bases].tolist() == [1] * 9 + [0] * 10
    assert len(set(pairs.targets.tolist())) == len(pairs) == 19
    assert 0 not in pairs.targets


def test_a_small_distance_leaves_duplicates_aside():
    features = torch.arange(100.0)[:, None] * torch.ones(1, 4)
    assert choices.small_distance(features) == pytest.approx(2.0, abs=1e-3)
    features[1] = features[0]
    assert choices.small_distance(features) == pytest.approx(2.0, abs=1e-3)


# Folders


@pytest.fixture
def experiment():
    plan = replace(PLAN, classes=(5, 6), targets=2, training_images=6, last_layer=LastLayerPlan(epochs=3))
    plan = replace(plan, crafting=replace(plan.crafting, iterations=3))
    return Experiment(name="tiny", extractor=EXTRACTOR, plan=plan)


@pytest.fixture
def folder(tmp_path):
    return TransferFolder(path=tmp_path / "work", data_root=write_cifar10(tmp_path / "data"), say=lambda text: None)


def test_results_are_kept_and_used_again(folder, experiment, monkeypatch):
    results = folder.measured(experiment)
    assert len(results["hit"]) == len(results["angles"]) == len(results["confidence"])
    assert len(results["mean_angle_by_epoch"]) == 3
    assert results["features"] == 2048
    assert results["training_images"] == 12
    for name in ("craft_all", "set_scene", "attack", "build_extractor"):
        monkeypatch.setattr(transfer_folder, name, None)
    assert folder.measured(experiment) == results


def test_poisons_of_a_killed_run_are_used(folder, experiment, monkeypatch):
    results = folder.measured(experiment)
    (folder.path / "tiny.json").unlink()
    monkeypatch.setattr(transfer_folder, "craft_all", None)
    assert folder.measured(experiment) == results


def test_results_of_another_recipe_are_refused(folder, experiment):
    folder.measured(experiment)
    other = replace(experiment, plan=replace(experiment.plan, seed=1))
    with pytest.raises(ValueError, match="another recipe"):
        folder.measured(other)
    (folder.path / "tiny.json").unlink()
    with pytest.raises(ValueError, match="another recipe"):
        folder.measured(other)


def test_extractors_have_not_seen_what_is_held_out_and_are_used_again(folder):
    said = []
    built = build_extractor(EXTRACTOR, folder.path, folder.data_root, said.append)
    assert built.network.output.out_features == 7
    again = build_extractor(EXTRACTOR, folder.path, folder.data_root, said.append)
    assert len(said) == 1
    images = built.prepared(ImageSet(images=class_images(1, 3, 1), labels=torch.arange(3))).images
    assert images.shape == (3, 3, 128, 128)
    assert torch.equal(built.features_of(images), again.features_of(images))
    assert not any(parameter.requires_grad for parameter in again.network.parameters())
    record = folder.path / f"{EXTRACTOR.name}.json"
    record.write_text(record.read_text().replace('"seed": 0', '"seed": 5'))
    with pytest.raises(ValueError, match="another recipe"):
        build_extractor(EXTRACTOR, folder.path, folder.data_root)
