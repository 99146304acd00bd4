"""``metapoison craft`` and ``metapoison benchmark`` on made-up images."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("torch")
pytest.importorskip("torchvision")

import numpy as np
import torch
from frog_sets import write_cifar10
from PIL import Image

from reference_attacks.cli import main
from reference_attacks.metapoison import benchmark
from reference_attacks.metapoison.checkpoints import Checkpoint
from reference_attacks.metapoison.poison_files import read_poisons

CRAFTING = ["--network", "small-convnet", "--surrogates", "2", "--epochs", "2", "--steps", "2", "--batch", "10"]
IMAGES = ["--classes", "bird,dog,frog", "--target-class", "dog", "--poison-class", "frog", "--train-images", "30"]


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    root = write_cifar10(tmp_path_factory.mktemp("metapoison"), train=12, test=6)
    return [*IMAGES, *CRAFTING, "--data-root", root, "--workers", "1", "--reference-epochs", "4"]


def test_crafted_files_say_whose_place_they_take(options, tmp_path, capsys):
    out = tmp_path / "poisons"
    assert main(["metapoison", "craft", *options, "--bound", "8", "--out", str(out)]) == 0
    assert "3 poisons" in capsys.readouterr().out
    file, images = read_poisons(out / "poisons.npz", options[options.index("--data-root") + 1])
    assert len(images.training) == 30
    assert (file.images.int() - file.problem.bases.int()).abs().max() == 8
    assert file.problem.labels.tolist() == [2]
    assert file.problem.true_labels.tolist() == [1]
    card = json.loads((out / "card.json").read_text())
    assert card["plan"]["bound"] == 8 / 255
    assert len(card["history"]) == 2
    for number, poison in enumerate(card["poisons"]):
        assert poison["place"] == file.problem.poisons[number]
        with Image.open(out / poison["file"]) as image:
            assert (np.asarray(image).transpose(2, 0, 1) == file.images[number].numpy()).all()
    assert not (out / "progress").exists()
    assert main(["metapoison", "craft", *options, "--out", str(out)]) == 2
    assert "is not empty" in capsys.readouterr().err


def test_the_command_of_the_card_makes_the_same_poisons_again(options, tmp_path, monkeypatch):
    first = tmp_path / "first"
    assert main(["metapoison", "craft", *options, "--seed", "4", "--objective", "margin", "--out", str(first)]) == 0
    words = json.loads((first / "card.json").read_text())["command"].split()
    assert words[:3] == ["python", "-m", "reference_attacks"]
    (tmp_path / "again").mkdir()
    monkeypatch.chdir(tmp_path / "again")
    root = options[options.index("--data-root") + 1]
    assert main([*words[3:], "--data-root", root, "--workers", "1"]) == 0
    images = [np.load(folder / "poisons.npz")["images"] for folder in (first, tmp_path / "again" / "first")]
    assert (images[0] == images[1]).all()


def test_an_interrupted_command_goes_on_when_started_again(options, tmp_path, monkeypatch):
    out = tmp_path / "poisons"
    command = ["metapoison", "craft", *options, "--out", str(out)]
    save = Checkpoint.save

    def save_and_stop(checkpoint, everything):
        save(checkpoint, everything)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "save", save_and_stop)
        assert main(command) == 130
    assert [entry.name for entry in out.iterdir()] == ["progress"]
    assert main(command) == 0
    assert main([*command[:-1], str(tmp_path / "whole")]) == 0
    images = [np.load(folder / "poisons.npz")["images"] for folder in (out, tmp_path / "whole")]
    assert (images[0] == images[1]).all()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (["--target-class", "cow"], "'cow' is no class of this training set"),
        (["--target-class", "frog"], "Poisons are of another class"),
        (["--budget", "50"], "choose a smaller budget"),
        (["--batch", "30"], "choose a smaller batch"),
    ],
)
def test_options_that_do_not_fit_are_answered_with_a_sentence(options, tmp_path, capsys, changes, sentence):
    assert main(["metapoison", "craft", *options, *changes, "--out", str(tmp_path / "poisons")]) == 2
    assert sentence in capsys.readouterr().err


def test_the_benchmark_measures_both_ways_at_equal_results(tmp_path, capsys):
    options = ["--network", "small-convnet", "--batch", "16", "--surrogates", "2", "--repeats", "1", "--device", "cpu"]
    assert main(["metapoison", "benchmark", *options, "--out", str(tmp_path / "benchmark.md")]) == 0
    assert "meta-gradients a second" in capsys.readouterr().out
    values = json.loads((tmp_path / "benchmark.json").read_text())
    assert set(values["ways"]) == {benchmark.BATCHED, benchmark.ONE_BY_ONE}
    assert all(way["per_second"] > 0 for way in values["ways"].values())
    assert values["largest_difference"] < 1e-3
    torch.testing.assert_close(values["ways"][benchmark.BATCHED]["times"], 1.0)
