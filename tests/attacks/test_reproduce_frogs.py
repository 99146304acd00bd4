"""``reproduce frogs``: the transfer-learning parts on made-up images, their text and pictures."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

pytest.importorskip("torch")
pytest.importorskip("matplotlib")
pytest.importorskip("torchvision")

from frog_sets import write_cifar10

from reference_attacks.data import DataNotFoundError, load_cifar10, load_gtsrb
from reference_attacks.reproduce.frogs import transfer, transfer_experiments
from reference_attacks.reproduce.frogs.catalogue import PAPER
from reference_attacks.reproduce.frogs.transfer import PARTS
from reference_attacks.reproduce.frogs.transfer_experiments import (
    BOUNDS,
    FULL,
    main_experiment,
    measured_all,
    other_experiments,
)
from reference_attacks.reproduce.parts import Settings

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def settings(tmp_path):
    data_root = write_cifar10(tmp_path / "data")
    work = tmp_path / "work"
    return Settings(seed=0, small=True, workers=1, work=work, data_root=data_root, say=lambda text: None)


@pytest.fixture
def tiny(monkeypatch):
    scale = replace(transfer_experiments.SMALL, cifar10_steps=2, targets=2, other_targets=1, iterations=2)
    monkeypatch.setattr(transfer_experiments, "SMALL", scale)
    others = transfer_experiments.other_experiments
    monkeypatch.setattr(
        transfer_experiments,
        "other_experiments",
        lambda settings: (one for one in others(settings) if one.name == "dog-frog-ship"),
    )


def test_every_part_is_in_the_catalogue():
    for name in PARTS:
        assert PAPER.find_part(name).title == PARTS[name].title


def test_both_figures_are_measured_written_and_drawn_from_the_same_experiments(settings, tiny, monkeypatch):
    for name, part in PARTS.items():
        values = json.loads(json.dumps(part.measure(settings)))
        text = part.text(values)
        assert "nan" not in text
        assert "paper" in text
        assert "| --- |" in text
        for picture in part.draw(values).values():
            assert picture.startswith(PNG), name
        assert part.measure(settings) == values
    assert (settings.work / transfer.PICTURE).read_bytes().startswith(PNG)


def test_the_full_size_has_200_targets_and_fewer_training_images_than_features(settings):
    full = replace(settings, small=False)
    experiment = main_experiment(full)
    assert 2 * experiment.plan.targets == 2 * FULL.targets >= 200
    assert len(experiment.plan.classes) * experiment.plan.training_images < 2048
    for other in other_experiments(full):
        assert len(other.plan.classes) * other.plan.training_images < 2048
        assert set(other.plan.classes) <= set(other.extractor.held_out)
    assert main_experiment(full, 2).plan.crafting.bound == 2 / 255


@pytest.mark.parametrize(("enough", "expected"), [(2, [2]), (4, [2, 4]), (99, [*BOUNDS])])
def test_bounds_are_tried_until_every_attack_succeeds(settings, monkeypatch, enough, expected):
    class Folder:
        def measured(self, experiment):
            bound = experiment.plan.crafting.bound
            return {"hit": [True, bound is None or round(bound * 255) >= enough]}

    monkeypatch.setattr(transfer_experiments, "folder_of", lambda settings: Folder())
    within = [name for name in measured_all(settings) if "within" in name]
    assert within == [f"dog-frog-within-{bound}" for bound in expected]


def found(**changes):
    base = {
        "features": 2048,
        "training_images": 1800,
        "clean_accuracy": 0.9,
        "restart_angle": 4.25,
        "stop_distance": 5.0,
        "initial_distances": [20.0, 30.0],
        "distances": [4.0, 6.0],
        "iterations": [10, 30],
        "hit": [True, False],
        "learnt": [True, True],
        "confidence": [0.75, 0.25],
        "accuracy": [0.9, 0.89],
        "l2": [1.0, 2.0],
        "linf": [8, 30],
        "angles": [10.0, 30.0],
        "mean_angle_by_epoch": [5.0, 20.0],
    }
    return base | changes


def test_figure_1_gives_shares_with_intervals_beside_the_paper():
    text = PARTS["figure-1"].text({"dog-frog": found()})
    assert "| dog and frog | 2 | 50.0% (9.5% to 90.5%) | 50.0% | 2 of 2 | 90.0% | 0.50 | 1.00 |" in text
    assert "| paper: dog and fish | 1,099 | 100.0% | 99.6% |" in text
    assert "| dog and frog | 1,800 | 2,048 | 25.00 | 5.00 | 5.00 | 50.0% | 1.50 | 19, 30 | 20, 30 |" in text
    assert "not every attack succeeds" not in text


def test_figure_1_says_which_bound_is_enough():
    results = {"dog-frog": found(), "dog-frog-within-2": found(), "dog-frog-within-4": found(hit=[True, True])}
    assert "Within 2 of 255 not every attack succeeds; the first within which every" in PARTS["figure-1"].text(results)
    results["dog-frog-within-4"] = found()
    assert "Within 2 and 4 of 255 not every attack succeeds; none" in PARTS["figure-1"].text(results)


def test_figure_2_has_room_for_end_to_end_training():
    values = {"transfer": {"dog-frog": found()}, "end_to_end": None}
    text = PARTS["figure-2"].text(values)
    assert "| dog and frog | 20.0 | 20.0 | 10.0 to 30.0 | 5.0 | 4.2 |" in text
    assert "not measured in this run" in text
    blue = PARTS["figure-2"].draw(values)[""]
    values["end_to_end"] = {"angles": [0.1, 0.3], "mean_angle_by_epoch": [0.1, 0.2]}
    text = PARTS["figure-2"].text(values)
    assert "| end to end | 0.2 | 0.2 | 0.1 to 0.3 | 0.1 | – |" in text
    assert "not measured" not in text
    assert PARTS["figure-2"].draw(values)[""] != blue


@pytest.mark.slow
def test_one_shot_kills_at_the_reduced_size(tmp_path):
    try:
        load_cifar10(train=False)
        load_gtsrb(train=False)
    except DataNotFoundError as error:
        pytest.skip(str(error))
    settings = Settings(seed=0, small=True, workers=2, work=tmp_path, data_root=None, say=print)
    results = measured_all(settings)
    for name, one in results.items():
        drop = one["clean_accuracy"] - sum(one["accuracy"]) / len(one["accuracy"])
        # Ten targets and small extractors: the figure that counts, of 220 dogs and frogs, is in the results.
        assert drop < (0.005 if name == "dog-frog" else 0.01), name
    assert sum(results["dog-frog"]["hit"]) >= 0.9 * len(results["dog-frog"]["hit"])
