"""The report on MetaPoison, of made-up records of victims; the lists of its experiments; and its command line."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from math import log
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")
pytest.importorskip("matplotlib")

from made_up_metapoison import make_folder, make_setting  # noqa: E402

from reference_attacks.cli import main  # noqa: E402
from reference_attacks.metapoison.experiments import (  # noqa: E402
    FULL,
    REDUCED,
    SCALES,
    SMALL,
    attacks,
    bounds,
    budgets,
    choose_scale,
    in_turn,
    open_folder,
    pair_label,
    pairs,
    stepped_victims,
    varied_victims,
    victims,
)
from reference_attacks.metapoison.folder import MetaPoisonFolder  # noqa: E402
from reference_attacks.metapoison.runs import VictimRun  # noqa: E402
from reference_attacks.metapoison.summaries import (  # noqa: E402
    accuracy_change,
    curves,
    losses,
    records_of,
    success_difference,
    summary,
)
from reference_attacks.reproduce.metapoison import figures  # noqa: E402
from reference_attacks.reproduce.metapoison.catalogue import PAPER  # noqa: E402
from reference_attacks.reproduce.parts import Settings  # noqa: E402
from reference_attacks.zoo.machine import Machine  # noqa: E402

CPU = Machine(device="cpu", workers=2, group=1, precision="float32")
PNG = b"\x89PNG"
EPOCHS = 3


def make_values(run: VictimRun) -> dict:
    """A victim whose targets are taken for the wanted class if it saw poisons and its number is even."""
    trial = run.trial
    success = trial.arm == "poisoned" and run.number % 2 == 0
    final = [0.0] * 3
    final[trial.wanted if success else trial.target_class] = log(2)
    logits = [[[0.0] * 3] * trial.targets] * (EPOCHS - 1) + [[final] * trial.targets]
    looked = {
        "logits": logits,
        "success": [0.0] * (EPOCHS - 1) + [float(success)],
        "confidence": [1 / 3] * (EPOCHS - 1) + [0.5 if success else 0.25],
    }
    return {
        "targets": list(range(trial.targets)),
        "poison_accuracy": 1.0,
        "evaluation": looked,
        "batch": looked,
        "validation_accuracy": [0.3, 0.6, 0.89 if trial.arm == "poisoned" else 0.9],
        "distances": {name: [3.0, 2.0, 1.0] for name in ("poisons", "bases", "target class", "wanted class")},
    }


@pytest.fixture
def built(monkeypatch, tmp_path: Path):
    """Settings whose victims are made up when they are built; returns them with the names of what was built."""
    names: list[str] = []

    def build(self: MetaPoisonFolder, runs, data_root):
        reference = self.path / self.name / "reference.json"
        reference.parent.mkdir(parents=True, exist_ok=True)
        reference.write_text('{"validation_accuracy": 0.91}')
        for run in runs:
            if not self.is_done(run):
                names.append(run.name)
                self.keep(run, make_values(run), {"w": torch.zeros(1)} if run.keep_weights else None)
                if run.trial.arm == "poisoned":
                    step = {"loss_before": 2.0, "loss_after": 1.5, "success": 0.25}
                    values = {"history": [step] * 20, "seconds": 90.0}
                    self.keep_poisons(run.trial, {"images": torch.zeros(1, dtype=torch.uint8)}, values)

    monkeypatch.setattr(MetaPoisonFolder, "build", build)
    monkeypatch.setattr(figures, "look_into", lambda bench, trial: LOOKED)
    settings = Settings(seed=0, small=True, workers=1, work=tmp_path, data_root=None, say=lambda text: None)
    return settings, names


LOOKED = {
    "weights": {
        "explained": 0.9,
        "clean": [[0.0, 0.0], [1.0, 0.5], [2.0, 0.6]],
        "poisoned": [[0.0, 0.0], [1.0, 1.0], [1.5, 2.0]],
        "arrows": [
            {"epoch": 1, "direction": [0.1, 0.2], "length": 0.3, "towards_poisoned": 0.4, "towards_wanted": 0.2},
            {"epoch": 2, "direction": [0.0, 0.0], "length": 0.3, "towards_poisoned": 0.2, "towards_wanted": 0.1},
        ],
    },
    "features": {
        network: {
            "poisons": [0.7, 0.8, 0.9, 1.0, 1.1],
            "bases": [0.7, 0.8, 1.0, 1.2, 1.3],
            "collisions": [0.1, 0.15, 0.2, 0.3, 0.4],
            "target's class": [0.3, 0.4, 0.5, 0.6, 0.7],
        }
        for network in ("clean", "poisoned")
    },
}


def shown(part: str, settings: Settings) -> tuple[dict, str, dict]:
    """A part's values as they are read from its file, its text and its pictures."""
    found = PAPER.find_part(part)
    results = json.loads(json.dumps(found.measure(settings)))
    return results, found.text(results), dict(found.draw(results))


def make_records(tmp_path: Path, runs: list[VictimRun]) -> list[dict]:
    folder = open_folder(tmp_path, SMALL, 0, CPU)
    for run in runs:
        folder.keep(run, make_values(run), None)
    return records_of(folder, runs)


def test_a_summary_counts_attacks_with_their_interval(tmp_path: Path):
    (trial, *_) = pairs(SMALL, 1)
    assert summary([]) is None
    assert curves([]) is None
    records = make_records(tmp_path, [VictimRun(trial=trial, number=number) for number in range(4)])
    found = summary(records)
    assert (found["victims"], found["attacks"], found["successes"], found["success"]) == (4, 4, 2, 0.5)
    assert found["interval"] == pytest.approx((0.0676, 0.9324), abs=1e-4)
    assert found["by_pair"] == [0.5]
    assert found["confidence"] == pytest.approx(0.375)
    assert found["loss"] == pytest.approx((log(2) + log(4)) / 2)
    assert curves(records)["evaluation"] == {"success": [0, 0, 0.5], "loss": pytest.approx([1.09861, 1.09861, 1.03972])}


def test_every_target_of_a_victim_is_an_attack_and_third_parties_have_their_own_loss(tmp_path: Path):
    several = attacks(SMALL)["2 targets"][0]
    third = attacks(SMALL)["third party"][0]
    records = make_records(tmp_path, [VictimRun(trial=several, number=0), VictimRun(trial=third, number=0)])
    assert (summary(records)["attacks"], summary(records)["successes"]) == (3, 3)
    assert losses(records[1], "batch")[-1] == pytest.approx(log(2))


def test_accuracies_are_compared_between_victims_of_the_same_start(tmp_path: Path):
    (trial, *_) = pairs(SMALL, 1)
    arms = {arm: [VictimRun(trial=replace(trial, arm=arm), number=n) for n in (0, 1)] for arm in ("poisoned", "clean")}
    poisoned, clean = (make_records(tmp_path, runs) for runs in arms.values())
    clean[1]["validation_accuracy"] = [0.0]
    assert accuracy_change(poisoned[:1], clean) == pytest.approx(-1)
    assert accuracy_change(poisoned[:1], clean[1:]) is None
    assert success_difference(poisoned, clean) == 50
    assert success_difference(poisoned, []) is None


def test_figure_4_compares_the_arms(built):
    settings, names = built
    results, text, pictures = shown("figure-4", settings)
    assert len(names) == SMALL.pairs * SMALL.victims * 3
    assert list(results["arms"]) == ["poisoned", "random", "clean"]
    assert results["difference"] == 50
    assert results["accuracy_changes"]["poisoned"] == pytest.approx(-1)
    assert results["crafting_seconds"] == [90.0] * SMALL.pairs
    assert "| crafted poisons | 4 | 50.0% (6.8% to 93.2%) | 50.0% to 50.0% | 37.5% |" in text
    assert "| -1.00 |" in text
    assert "succeed 50.0 percentage points more often" in text
    assert "took 1.5 minutes" in text
    assert "clean accuracy 91.0%" in text
    assert set(pictures) == {""}
    assert pictures[""][:4] == PNG


def test_figure_3_shares_victims_with_figure_4(built):
    settings, names = built
    shown("figure-4", settings)
    before = len(names)
    results, text, pictures = shown("figure-3", settings)
    assert len(names) == before + len(SMALL.setting.snapshots) * SMALL.victims * SMALL.stepped_pairs
    (pair,) = results["pairs"].values()
    assert list(pair["steps"]) == [*map(str, SMALL.setting.snapshots), str(SMALL.setting.crafting.steps)]
    assert "| 20 | 2.00 | 1.50 | 0.50 | 25.0% |" in text
    assert {name: content[:4] for name, content in pictures.items()} == {"a": PNG, "b": PNG}


def test_figure_5_has_budgets_variants_and_bounds(built):
    settings, _ = built
    results, text, pictures = shown("figure-5", settings)
    (points,) = results["budgets"].values()
    assert list(points) == ["0.1", "0.01"]
    (variants,) = results["variants"].values()
    assert all(found["victims"] == SMALL.victims for found in variants.values())
    assert list(results["bounds"]) == ["8", "16"]
    assert "| 8/255 | 2 |" in text
    assert "| 1 % | 2 |" in text
    assert "weight decay and augmentation" in text
    assert {name: content[:4] for name, content in pictures.items()} == {"a": PNG, "b": PNG}


def test_figure_6_has_the_kinds_of_attack_and_what_is_inside(built):
    settings, _ = built
    results, text, pictures = shown("figure-6", settings)
    assert list(results["attacks"]) == ["one target", "third party", "2 targets"]
    assert results["attacks"]["2 targets"]["attacks"] == 2 * SMALL.victims
    assert "| third party | 2 |" in text
    assert "| 90.0% | +0.30 | +0.15 |" in text
    assert "| clean | 0.90 | 0.20 | 0.50 |" in text
    assert {name: content[:4] for name, content in pictures.items()} == dict.fromkeys("abc", PNG)


def test_what_is_not_measured_is_left_out_and_nothing_is_trained_for_the_report(built, monkeypatch):
    settings, _ = built
    monkeypatch.setattr(figures, "look_into", lambda bench, trial: None)
    reported = replace(settings, training=False)
    for part in PAPER.modules:
        results, text, pictures = shown(part, reported)
        assert pictures == {}
        assert "surrogates small-convnet" in text
        assert results["reference"] is None
    (first, *_) = pairs(SMALL, 1)
    folder = figures.bench_of(settings).folder
    folder.build([run for arm in ("poisoned", "random", "clean") for run in victims(SMALL, first, arm)], None)
    results, text, _ = shown("figure-4", reported)
    assert list(results["pairs"]) == [pair_label(SMALL, first)]
    assert results["arms"]["clean"]["victims"] == SMALL.victims
    # One point of a comparison is no comparison.
    for part in ("figure-5", "figure-6"):
        _, text, pictures = shown(part, reported)
        assert "not measured yet" in text
        assert "|" not in text
        assert pictures == {}


def test_pairs_have_different_classes_until_there_are_no_others():
    chosen = pairs(REDUCED, 8)
    ways = [(trial.target_class, trial.poison_class) for trial in chosen]
    assert len(set(ways[:6])) == 6
    assert ways[6:] == ways[:2]
    assert [trial.number for trial in chosen] == list(range(8))
    assert pairs(REDUCED, 3) == chosen[:3]
    assert len({pair_label(REDUCED, trial) for trial in chosen}) == 8


def test_third_parties_have_poisons_of_a_class_that_is_neither_the_targets_nor_the_wanted_one():
    kinds = attacks(REDUCED)
    for usual, third in zip(kinds["one target"], kinds["third party"], strict=True):
        assert (third.target_class, third.wanted) == (usual.target_class, usual.wanted)
        assert third.poison_class not in (third.target_class, third.wanted)
        assert third.number == usual.number
    two = replace(REDUCED, setting=replace(REDUCED.setting, classes=(0, 1)))
    assert list(attacks(two)) == ["one target", "2 targets"]


def test_experiments_share_what_they_can():
    (trial, *_) = pairs(REDUCED, 1)
    usual = victims(REDUCED, trial)
    assert stepped_victims(REDUCED, trial)[REDUCED.setting.crafting.steps] == usual
    assert varied_victims(REDUCED, trial)["baseline"] == usual
    assert budgets(REDUCED)[REDUCED.budget][0] == trial
    assert bounds(REDUCED)[16][0] == trial
    assert attacks(REDUCED)["one target"][0] == trial
    assert [run.keep_weights for run in usual] == [True, *[False] * (REDUCED.victims - 1)]
    assert not any(run.keep_weights for run in victims(REDUCED, trial, "random"))


def test_lots_have_whole_groups():
    groups = [[f"{group}{number}" for number in range(2)] for group in "abc"]
    assert in_turn(groups, 2) == [["a0", "a1", "b0", "b1"], ["c0", "c1"]]


def test_the_full_experiments_are_the_papers():
    crafting, training = FULL.setting.crafting, FULL.setting.victims
    assert (crafting.network, crafting.surrogates, crafting.unroll, crafting.steps) == ("resnet-20", 24, 2, 61)
    assert (FULL.setting.train_images, len(FULL.setting.classes)) == (50_000, 10)
    assert (FULL.pairs, FULL.victims, FULL.other_pairs, FULL.budget) == (10, 8, 10, 0.1)
    assert (training.network, training.batch, training.learning_rate, training.momentum) == ("resnet-20", 125, 0.1, 0.9)
    assert (FULL.budgets[0], FULL.budgets[-1]) == (0.001, 0.1)
    assert choose_scale("cuda", small=False) is FULL
    assert choose_scale("cpu", small=False) is REDUCED
    assert choose_scale("cuda", small=True) is SMALL


@pytest.mark.parametrize("scale", SCALES.values(), ids=list(SCALES))
def test_every_trial_fits_its_setting(scale):
    scale.setting.crafting.check(scale.setting.train_images)
    each = scale.setting.train_images // len(scale.setting.classes)
    trials = [*pairs(scale, scale.pairs), *(trial for kind in attacks(scale).values() for trial in kind)]
    trials += [trial for group in (*budgets(scale).values(), *bounds(scale).values()) for trial in group]
    assert all(round(trial.budget * scale.setting.train_images) <= each for trial in trials)
    assert max(scale.setting.snapshots) < scale.setting.crafting.steps


def test_the_command_offers_every_figure_and_reports_without_training(built, tmp_path, capsys):
    arguments = ["reproduce", "metapoison", "--small", "--work", str(tmp_path), "--results", str(tmp_path)]
    assert main([*arguments, "--figure", "4", "--no-training"]) == 0
    assert "metapoison-figure-4-small.json" in capsys.readouterr().out
    report = (tmp_path / "metapoison-small.md").read_text()
    assert "## Figure 4" in report
    assert "--figure 4 --small --no-training --seed 0" in report
    with pytest.raises(SystemExit):
        main([*arguments, "--figure", "2"])


def test_figures_are_measured_written_and_drawn_on_tiny_networks(monkeypatch, tmp_path: Path):
    scale = replace(SMALL, setting=make_setting(snapshots=(0, 1)), victims=1, other_pairs=1)
    folder = make_folder(tmp_path / "tiny", snapshots=(0, 1))
    settings = Settings(seed=0, small=True, workers=1, work=tmp_path, data_root=None, say=lambda text: None)
    # In this process: starting others takes longer than the work.
    monkeypatch.setattr("reference_attacks.metapoison.folder.work_off", lambda do, jobs, **_: [do(job) for job in jobs])
    monkeypatch.setattr(
        "reference_attacks.metapoison.trials.predict",
        lambda network, images: torch.zeros(len(images), dtype=torch.int64),
    )
    monkeypatch.setattr(
        "reference_attacks.metapoison.experiments.permutations", lambda labels, length: [(0, 1), (0, 2)]
    )
    monkeypatch.setattr(figures, "bench_of", lambda _: figures.Bench(settings=settings, folder=folder, scale=scale))
    for part in PAPER.modules:
        results, text, pictures = shown(part, settings)
        assert "nan" not in text
        assert pictures
    assert len(results["looked"]) == scale.looked_into
    # Reporting again finds everything there and trains nothing.
    monkeypatch.setattr(MetaPoisonFolder, "build", lambda *_: pytest.fail("Something was trained."))
    settings = replace(settings, training=False)
    again, _, _ = shown("figure-6", settings)
    assert again == results


@pytest.mark.slow
def test_the_small_variant_runs(tmp_path: Path):
    if not (Path(os.environ.get("BACKDOOR_DATA_ROOT", "data")) / "cifar10").exists():
        pytest.skip("CIFAR-10 is not below $BACKDOOR_DATA_ROOT.")
    arguments = ["--small", "--work", str(tmp_path / "work"), "--results", str(tmp_path)]
    assert main(["reproduce", "metapoison", *arguments]) == 0
    report = (tmp_path / "metapoison-small.md").read_text()
    assert report.count("## Figure") == 4
    assert len(list(tmp_path.glob("metapoison-figure-*-small*.png"))) == 8
