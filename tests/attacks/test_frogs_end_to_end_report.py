"""The report on the end-to-end attack, of made-up records of victims; and its command line."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")

from reference_attacks.cli import main  # noqa: E402
from reference_attacks.poison_frogs.end_to_end import EndToEndFolder  # noqa: E402
from reference_attacks.poison_frogs.experiments import (  # noqa: E402
    FULL,
    PAPER_SCHEDULE,
    REDUCED,
    SMALL,
    ablation,
    all_trials,
    choose_scale,
    curves,
    main_trials,
    open_folder,
    outlier_trials,
    with_train_images,
)
from reference_attacks.poison_frogs.summaries import records_of, rotations, summary  # noqa: E402
from reference_attacks.poison_frogs.trials import Trial  # noqa: E402
from reference_attacks.reproduce.frogs import end_to_end  # noqa: E402
from reference_attacks.reproduce.frogs.rotation import end_to_end_rotation  # noqa: E402
from reference_attacks.reproduce.parts import Settings  # noqa: E402
from reference_attacks.zoo.machine import Machine  # noqa: E402

CPU = Machine(device="cpu", workers=1, group=1, precision="float32")


def make_record(trial: Trial) -> dict:
    """A victim whose attack succeeded for even numbers of trials."""
    success = trial.number % 2 == 0
    classes = [0.0] * 10
    clean, victim = list(classes), list(classes)
    clean[trial.target_class] = 2.0
    victim[trial.base_class if success else trial.target_class] = 2.0
    plane = {
        "points": {name: [[0.0, 1.0], [1.0, 0.5]] for name in ("target class", "base class", "target", "poisons")},
        "boundary": [1.0, 0.2],
    }
    return {
        "target": trial.number,
        "logits": {"clean": clean, "control": clean, "victim": victim},
        "predicted": trial.base_class if success else trial.target_class,
        "success": success,
        "clean_accuracy": 0.75,
        "poison_accuracy": 1.0,
        "rotation": {"from_control": [0.1, 0.2], "from_start": [0.3, 0.4]},
        "crafting": {"distance_before": 9.0, "distance": 1.0, "iterations": 5, "change_rms_of_255": 20.0},
        "projection": {"clean": plane, "victim": plane},
    }


@pytest.fixture
def built(monkeypatch, tmp_path: Path):
    """Settings whose victims are made up when they are built; returns them with the names of what was built."""
    names: list[str] = []

    def build(self: EndToEndFolder, trials, data_root):
        control = self.path / self.name / "control.json"
        control.parent.mkdir(parents=True, exist_ok=True)
        control.write_text('{"clean_accuracy": {"clean": 0.76, "control": 0.755}}')
        for trial in trials:
            if not self.is_done(trial):
                names.append(trial.name)
                self.keep(trial, make_record(trial))

    monkeypatch.setattr(EndToEndFolder, "build", build)
    settings = Settings(seed=0, small=True, workers=1, work=tmp_path, data_root=None, say=lambda text: None)
    return settings, names


def test_a_summary_counts_successes_with_their_interval(tmp_path: Path):
    folder = open_folder(tmp_path, SMALL, 0, CPU)
    trials = main_trials(SMALL)
    assert summary(records_of(folder, trials)) is None
    for trial in trials[:2]:
        folder.keep(trial, make_record(trial))
    found = summary(records_of(folder, trials))
    assert (found["trials"], found["successes"], found["kept"], found["control_flips"]) == (2, 1, 1, 0)
    assert found["interval"] == pytest.approx((0.0126, 0.9874), abs=1e-4)
    assert rotations(records_of(folder, trials)) == {
        "angles": [0.2, 0.2],
        "mean_angle_by_epoch": [0.1, 0.2],
        "angles_from_start": [0.4, 0.4],
    }


def test_a_target_that_is_read_as_a_third_class_is_no_success(tmp_path: Path):
    folder = open_folder(tmp_path, SMALL, 0, CPU)
    (trial, *_) = main_trials(SMALL)
    folder.keep(trial, {**make_record(trial), "predicted": 9, "success": False})
    found = summary(records_of(folder, [trial]))
    assert (found["successes"], found["kept"]) == (0, 0)


def test_victims_of_the_papers_schedule_are_told_beside_reduced_ones(built):
    settings, names = built
    settings = replace(settings, small=False)
    if end_to_end.folder_of(settings)[1] != REDUCED:
        pytest.skip("on a GPU all victims are full ones")
    results = end_to_end.measure_figure_5(settings)
    assert results.pop("paper_schedule") is None
    assert "at its rate" not in end_to_end.PARTS["figure-5"].text(results), "results of older versions are without it"
    folder = open_folder(settings.work, PAPER_SCHEDULE, 0, CPU)
    folder.build(main_trials(PAPER_SCHEDULE)[:3], None)
    names.clear()
    results = end_to_end.measure_figure_5(settings)
    assert names == [], "they take hours, and are trained only if somebody asks for them"
    text = end_to_end.PARTS["figure-5"].text(results).split("at its rate.")[1]
    assert "on 50,000 clean images (as in the paper)" in text
    assert "| bird to dog, 30 % | 50 | 3 | 66.7% (9.4% to 99.2%) |" in text
    assert "outliers" not in text
    assert "3 victims with 50 poisons: 0.20° on average" in text


def test_figure_5_has_every_curve_and_the_outliers(built):
    settings, _ = built
    results = end_to_end.measure_figure_5(settings)
    assert set(results["curves"]) == {"bird to dog, 30 %", "bird to dog, 20 %", "airplane to frog, 30 %"}
    assert results["curves"]["bird to dog, 30 %"]["50"]["trials"] == SMALL.trials
    assert len(results["rotations"]["angles"]) == SMALL.trials + SMALL.outliers
    assert results["outlier_targets"][0] == {"target": 0, "confidence": 0.4509, "success": True}
    part = end_to_end.PARTS["figure-5"]
    text = part.text(results)
    assert "2,000 clean images (the paper has 50,000: here 25 times as large a share is poisoned)" in text
    assert "| bird to dog, 30 % | 50 | 3 | 66.7% (9.4% to 99.2%) |" in text
    assert "| about 60 % |" in text
    assert {content[:4] for content in part.draw(results).values()} == {b"\x89PNG"}
    assert set(part.draw(results)) == {"a", "b"}


def test_what_is_not_measured_yet_is_left_out_of_the_report(built, monkeypatch):
    settings, _ = built
    end_to_end.measure_ablation(settings)
    monkeypatch.setattr(EndToEndFolder, "build", lambda self, trials, data_root: None)
    results = end_to_end.measure_figure_5(settings)
    assert results["outliers"] is None
    part = end_to_end.PARTS["figure-5"]
    assert part.text(results).count("| bird to dog") == 1
    assert set(part.draw(results)) == {"b"}
    nothing = end_to_end.measure_figure_3(settings)
    assert "| yes |" not in end_to_end.PARTS["figure-3"].text(nothing)
    assert end_to_end.PARTS["figure-3"].draw(nothing) == {}


def test_the_ablation_shares_victims_with_figure_5(built):
    settings, names = built
    end_to_end.measure_figure_5(settings)
    before = len(names)
    results = end_to_end.measure_ablation(settings)
    assert len(names) == before + 3 * SMALL.ablated
    assert list(results["rows"]) == ["nothing", "optimisation", "diversity of bases", "watermark"]
    assert end_to_end.PARTS["ablation"].text(results).count("| 50.0% (1.3% to 98.7%) |") == 4


def test_figure_3_shows_the_first_attack_that_succeeded(built):
    settings, names = built
    results = end_to_end.measure_figure_3(settings)
    assert set(results["attacks"]) == {"one poison", "50 poisons"}
    assert len(names) == 2
    assert "| +2.00 | yes |" in end_to_end.PARTS["figure-3"].text(results)
    assert end_to_end.PARTS["figure-3"].draw(results)[""][:4] == b"\x89PNG"


def test_rotations_are_read_from_what_is_there(built):
    settings, names = built
    assert end_to_end_rotation(settings) is None
    end_to_end.measure_figure_5(settings)
    before = len(names)
    assert len(end_to_end_rotation(settings)["angles"]) == SMALL.trials + SMALL.outliers
    assert len(names) == before


def test_the_full_experiments_are_the_papers():
    assert FULL.setting.train_images == 50_000
    assert {1, 5, 50, 70} < set(FULL.counts)
    assert (FULL.trials, FULL.outliers) == (30, 50)
    assert (FULL.setting.victims.learning_rate, FULL.setting.victims.epochs) == (1.85e-5, 10)
    # As far as the paper's victims go: rate times steps.
    reduced = replace(FULL.setting.victims, learning_rate=1.85e-5 * 50_000 / REDUCED.setting.train_images)
    assert REDUCED.setting.victims == SMALL.setting.victims == reduced
    assert choose_scale("cuda", small=False) is FULL
    assert choose_scale("cpu", small=False) is REDUCED
    assert with_train_images(REDUCED, 7).setting == replace(REDUCED.setting, train_images=7)


def test_all_trials_are_there_once_and_what_decides_most_comes_first():
    trials = all_trials(REDUCED)
    assert len(set(trials)) == len(trials)
    assert trials[:30] == main_trials(REDUCED)
    assert trials[30:60] == outlier_trials(REDUCED)
    points = {trial for curve in curves(REDUCED) for count in curve.counts for trial in curve.trials(count, 30)}
    assert points | {trial for row in ablation(REDUCED).values() for trial in row} <= set(trials)


def test_the_command_attacks_what_it_is_told_and_says_what_came_of_it(built, tmp_path, capsys):
    _, names = built
    options = ["frogs", "end-to-end", "--work", str(tmp_path), "--device", "cpu", "--scale", "small"]
    assert main([*options, "--target", "airplane", "--base", "frog", "--outliers", "--trials", "3"]) == 0
    assert names == [f"0-to-6-outlier-{number}-0.30-with-50" for number in range(3)]
    assert "2 of 3 attacks succeeded (66.7 %, 95 % interval 9.4 to 99.2), with 2,000 clean" in capsys.readouterr().out
    assert main([*options, "--train-images", "1000", "--trials", "1", "--one-base", "--no-optimisation"]) == 0
    assert names[3:] == ["2-to-5-random-0-0.30-unoptimised-one-base-with-50"]
    assert "with 1,000 clean" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--target", "cow"], "no class 'cow'"),
        (["--target", "dog"], "different classes"),
        (["--trials", "0"], "at least one trial"),
        (["--poisons", "0"], "at least one poison"),
    ],
)
def test_what_cannot_be_attacked_is_refused(options, message, built, tmp_path, capsys):
    assert main(["frogs", "end-to-end", "--work", str(tmp_path), *options]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif("BACKDOOR_DATA_ROOT" not in os.environ, reason="needs CIFAR-10 below BACKDOOR_DATA_ROOT")
def test_the_small_experiments(tmp_path: Path):
    settings = Settings(seed=0, small=True, workers=2, work=tmp_path, data_root=None, say=print)
    results = end_to_end.measure_figure_5(settings)
    found = results["curves"]["bird to dog, 30 %"]
    assert found["50"]["poison_accuracy"] > 0.5
    assert found["50"]["distance"] < found["50"]["distance_before"]
    assert results["before"]["clean"] > 0.4
    assert max(results["rotations"]["angles"]) < 10
