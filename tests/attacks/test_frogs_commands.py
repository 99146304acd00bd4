"""``frogs craft``, ``frogs transfer`` and ``frogs benchmark`` on made-up images."""

from __future__ import annotations

import json
import shlex

import pytest

pytest.importorskip("torch")
pytest.importorskip("torchvision")

import numpy as np
import torch
from frog_sets import class_images, write_cifar10, write_images
from PIL import Image

from reference_attacks.cli import main
from reference_attacks.poison_frogs import art, benchmark, inception, sources


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """Options of a made-up task, and of its small network, which is trained once for all."""
    root = tmp_path_factory.mktemp("frogs")
    options = ["--task", "cifar10", "--data-root", write_cifar10(root / "data"), "--extractors", str(root / "networks")]
    return [*options, "--extractor-steps", "2", "--iterations", "3"]


DOG_TO_FROG = ["--target-class", "dog", "--base-class", "frog"]


def test_crafted_files_hold_what_was_measured(shared, tmp_path, capsys):
    out = tmp_path / "poisons"
    assert main(["frogs", "craft", *shared, *DOG_TO_FROG, "--count", "3", "--bound", "4", "--out", str(out)]) == 0
    assert "3 poisons" in capsys.readouterr().out
    arrays = np.load(out / "poisons.npz")
    card = json.loads((out / "card.json").read_text())
    assert arrays["images"].shape == (3, 3, 128, 128)
    assert np.abs(arrays["images"].astype(int) - arrays["bases"]).max() <= 4
    assert card["label"] == "frog"
    assert card["plan"]["bound"] == 4 / 255
    for number, poison in enumerate(card["poisons"]):
        with Image.open(out / poison["file"]) as image:
            assert (np.asarray(image).transpose(2, 0, 1) == arrays["images"][number]).all()
    assert main(["frogs", "craft", *shared, *DOG_TO_FROG, "--out", str(out)]) == 2
    assert "is not empty" in capsys.readouterr().err


@pytest.mark.parametrize("likeness", [["--bound", "4"], ["--similarity", "0.001", "--stop-distance", "0.5"]])
def test_the_command_on_the_card_makes_the_same_poisons(shared, tmp_path, likeness):
    first, again = tmp_path / "first", tmp_path / "again"
    options = [*likeness, "--count", "2", "--watermark", "0.2", "--step-rule", "descent", "--seed", "3"]
    assert main(["frogs", "craft", *shared, *DOG_TO_FROG, *options, "--out", str(first)]) == 0
    words = shlex.split(json.loads((first / "card.json").read_text())["command"])
    assert words[:3] == ["python", "-m", "reference_attacks"]
    folders = [*shared[shared.index("--data-root") :][:4], "--out", str(again)]
    assert main([*words[3:], *folders]) == 0
    assert (np.load(first / "poisons.npz")["images"] == np.load(again / "poisons.npz")["images"]).all()


def test_one_target_in_a_folder_stands_for_all_bases(shared, tmp_path):
    write_images(tmp_path / "target", class_images(5, 1, 7))
    write_images(tmp_path / "bases", class_images(6, 3, 7))
    folders = ["--target-images", str(tmp_path / "target"), "--base-images", str(tmp_path / "bases")]
    out = tmp_path / "poisons"
    options = [*shared, *DOG_TO_FROG, *folders, "--watermark", "0.3", "--out", str(out)]
    assert main(["frogs", "craft", *options]) == 0
    arrays = np.load(out / "poisons.npz")
    assert len(arrays["images"]) == 3
    assert (arrays["targets"] == arrays["targets"][:1]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--target-class", "cow", "--base-class", "frog"], "no class 'cow'"),
        (["--target-class", "frog", "--base-class", "frog"], "have to differ"),
        ([*DOG_TO_FROG, "--count", "0"], "at least one poison"),
        ([*DOG_TO_FROG, "--count", "99"], "only 6 test images"),
        ([*DOG_TO_FROG, "--target-images", "nowhere"], "not a folder"),
        ([*DOG_TO_FROG, "--inception", "nowhere.pth"], inception.SOURCE),
    ],
)
def test_what_cannot_be_crafted_is_told_in_a_sentence(shared, tmp_path, capsys, options, message):
    assert main(["frogs", "craft", *shared, *options, "--out", str(tmp_path / "poisons")]) == 2
    assert message in capsys.readouterr().err


def test_a_file_that_is_not_inception_is_refused(shared, tmp_path, capsys):
    torch.save({"weight": torch.zeros(1)}, tmp_path / "weights.pth")
    options = [*DOG_TO_FROG, "--inception", str(tmp_path / "weights.pth"), "--out", str(tmp_path / "poisons")]
    assert main(["frogs", "craft", *shared, *options]) == 2
    assert "does not hold torchvision's InceptionV3" in capsys.readouterr().err


def test_transfer_tells_and_writes_every_experiment(shared, tmp_path, capsys):
    out = tmp_path / "results.json"
    options = ["--classes", "dog", "frog", "ship", "--targets", "2", "--training-images", "6", "--epochs", "3"]
    assert main(["frogs", "transfer", *shared, *options, "--out", str(out)]) == 0
    values = json.loads(out.read_text())
    count = len(values["hit"])
    assert values["classes"] == ["dog", "frog", "ship"]
    assert values["training_images"] == 18
    assert len(values["mean_angle_by_epoch"]) == 3
    assert f"of {count} targets are taken for the base's class" in capsys.readouterr().out
    assert main(["frogs", "transfer", *shared, "--classes", "dog"]) == 2


def test_the_benchmark_compares_the_same_poisons(shared, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "art_missing", lambda: "not installed (pip install it)")
    threads = torch.get_num_threads()
    out = tmp_path / "crafting.md"
    assert (
        main(
            [
                "frogs",
                "benchmark",
                *shared,
                "--count",
                "4",
                "--alone",
                "2",
                "--descent-iterations",
                "2",
                "--out",
                str(out),
            ]
        )
        == 0
    )
    values = json.loads(out.with_suffix(".json").read_text())
    one, other = values["ways"][benchmark.BATCH], values["ways"][benchmark.ALONE]
    assert (one["poisons"], other["poisons"]) == (4, 2)
    assert one["objective"] == pytest.approx(other["objective"], rel=0.05)
    assert "ART was left out: not installed" in out.read_text()
    assert "| in a batch | 4 |" in out.read_text()
    assert torch.get_num_threads() == threads


def test_art_is_measured_where_it_is(monkeypatch):
    made = torch.full((2, 3, 8, 8), 7, dtype=torch.uint8)
    monkeypatch.setattr(benchmark, "art_missing", lambda: None)
    monkeypatch.setattr(
        benchmark, "art_craft", lambda features, bases, targets, plan, iterations, rate: made[: len(bases)]
    )
    images = torch.randint(0, 256, (8, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    test = sources.ImageSet(images=images, labels=torch.arange(8) % 2)

    class Extractor:
        def prepared(self, images):
            return images

        def features(self, images):
            return images.flatten(1)

    source = sources.Source(extractor=Extractor(), train=test, test=test, classes=(0, 1))
    plan = benchmark.CraftingPlan(iterations=2)
    sizes = benchmark.Sizes(count=3, alone=2, descent_iterations=2, art_iterations=5)
    values = benchmark.measure(source, plan, sizes, seed=0, say=lambda text: None) | {"command": "it"}
    assert values["ways"][benchmark.ART]["poisons"] == 2
    assert values["ways"][benchmark.ART]["objective"] > 0
    assert "| ART, FeatureCollisionAttack | 2 |" in benchmark.text(values)


@pytest.mark.skipif(art.art_missing() is not None, reason="adversarial-robustness-toolbox is not installed")
def test_arts_poisons_are_images_near_their_bases():
    images = torch.randint(0, 256, (4, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    weights = torch.randn(3 * 64, 20, generator=torch.Generator().manual_seed(1)) / 10
    plan = benchmark.CraftingPlan()
    poisons = art.art_craft(lambda some: torch.relu(some.flatten(1) @ weights), images[:2], images[2:], plan, 5, 0.1)
    assert poisons.dtype == torch.uint8
    assert poisons.shape == (2, 3, 8, 8)


def test_classes_have_names(tmp_path):
    assert sources.class_number("gtsrb", "14") == 14
    for name in ("fish", "dog"):
        write_images(tmp_path / "set" / "train" / name, class_images(1, 1, 1))
        write_images(tmp_path / "set" / "test" / name, class_images(1, 1, 1))
    assert sources.class_names(str(tmp_path / "set")) == ["dog", "fish"]
    with pytest.raises(ValueError, match="neither cifar10"):
        sources.class_names(str(tmp_path))


def test_large_images_are_read_in_the_size_of_inception(tmp_path):
    write_images(tmp_path / "train" / "dog", class_images(1, 2, 1))
    assert inception.load_large(tmp_path / "train").images.shape == (2, 3, 299, 299)
    with pytest.raises(RuntimeError, match="holds no images"):
        inception.load_large(tmp_path / "nowhere")
