from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("scipy")

from made_up_zoos import make_training
from test_litmus_fit import write_zoo

from pytest_backdoor.calibration import load_pack
from reference_attacks.cli import main
from reference_attacks.detectors import calibrate as calibrate_module
from reference_attacks.detectors.calibrate import Work, calibrate, judge_others
from reference_attacks.detectors.left_out import judge_left_out
from reference_attacks.detectors.splits import optimizer
from reference_attacks.zoo.store import load_zoo

SLOTS, CLASSES = 3, 10
COMPONENT = "reversal-samples/patch"
NAMES = {"litmus", "margin", COMPONENT, "reversal-prototypes/patch"}


def made_up_margins(record, kind):
    """Margins that tell the network: its number lies in one entry, and a backdoor stands out at its target."""
    number = int(record["name"].rsplit("-", 1)[1])
    margins = np.random.default_rng([number, len(kind)]).normal(size=(SLOTS, CLASSES + 1))
    if record["backdoor"] is not None:
        margins[1, record["backdoor"]["target"]] += 30
    return margins


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    write_zoo(tmp_path / "zoo")
    asked = []

    def reverse(zoo, records, *, kind, families, **_):
        asked.append((kind, tuple(families), [record["name"] for record in records]))
        tables = {family: np.stack([made_up_margins(record, kind) for record in records]) for family in families}
        return {**tables, "seconds": np.full(len(records), 2.0)}

    def maximise(zoo, records, prototypes, **_):
        return np.stack([made_up_margins(record, "margin")[:, :CLASSES] for record in records])

    monkeypatch.setattr(calibrate_module, "reversal_margins", reverse)
    monkeypatch.setattr(calibrate_module, "maximum_margins", maximise)
    return tmp_path / "zoo"


@pytest.fixture
def fitted(zoo):
    out = zoo.parent / "fitted.npz"
    command = ["litmus", "fit", "--zoo", str(zoo), "--patterns", "2", "--epochs", "1", "--no-reversal"]
    assert main([*command, "--out", str(out)]) == 0
    return out


def work(**families):
    return Work(families=families or {"samples": ("patch",), "prototypes": ("patch",)})


def test_all_references_are_of_the_same_networks_in_the_same_order(zoo, fitted):
    before = load_pack(fitted)
    pack = calibrate(before, [load_zoo(zoo)], work())
    assert set(pack.references) == NAMES
    assert set(pack.statistics) == NAMES - {"litmus"}
    np.testing.assert_allclose(pack.references["litmus"].scores, before.references["litmus"].scores, rtol=1e-5)
    count = len(before.references["litmus"].scores)
    assert {len(reference.scores) for reference in pack.references.values()} == {count}
    assert pack.statistics[COMPONENT].mean.shape == (SLOTS, CLASSES + 1)
    assert pack.statistics["margin"].mean.shape == (SLOTS, CLASSES)


def test_networks_of_several_zoos_keep_their_own_measurements(zoo, fitted, tmp_path, monkeypatch):
    write_zoo(tmp_path / "second")
    zoos = [load_zoo(zoo), load_zoo(tmp_path / "second")]
    rows = calibrate_module._in_order(
        zoos,
        [zoos[1].records[2], zoos[0].records[1], zoos[1].records[0]],
        lambda zoo, records: {"x": np.array([[zoo is zoos[1], int(r["name"][-1])] for r in records], float)},
    )
    expected = [zoos[1].records[2], zoos[0].records[1], zoos[1].records[0]]
    assert rows["x"][:, 0].tolist() == [1, 0, 1]
    assert rows["x"][:, 1].tolist() == [int(record["name"][-1]) for record in expected]


def test_test_networks_are_judged_by_every_vote(zoo, fitted):
    pack = calibrate(load_pack(fitted), [load_zoo(zoo)], work())
    judged = judge_others(pack, [load_zoo(zoo)], work())
    assert {one.record["split"] for one in judged} == {"test"}
    lowest = 1 / (1 + len(pack.references["litmus"].scores))
    for one in judged:
        assert set(one.votes) == {
            *NAMES,
            "reversal on samples",
            "reversal on prototypes",
            "all checks, samples",
            "all checks, prototypes",
        }
        if one.record["backdoor"] is not None:
            assert one.votes["reversal on samples"] == one.votes["all checks, samples"] == pytest.approx(lowest)
            assert set(one.target.values()) == {one.record["backdoor"]["target"]}
        else:
            assert one.votes["reversal on samples"] > lowest


def give_optimizers(zoo):
    """Every fourth network is said to be trained by Muon, the others by AdamW."""
    path = zoo / "manifest.json"
    manifest = json.loads(path.read_text())
    for number, record in enumerate(manifest["networks"]):
        record["training"] = {"kernel_learning_rate": 0.04 * (number % 4 == 3), "momentum": 0.0}
    path.write_text(json.dumps(manifest))


def test_an_optimizer_left_out_is_judged_by_the_networks_of_the_others(zoo, fitted):
    pack = load_pack(fitted)
    assert judge_left_out(pack, [load_zoo(zoo)], [load_zoo(zoo)], work()) == {}
    give_optimizers(zoo)
    found = judge_left_out(pack, [load_zoo(zoo)], [load_zoo(zoo)], work())
    assert {own: part.references for own, part in found.items()} == {"Muon": 3}  # without AdamW one would be left
    for own, part in found.items():
        assert part.level == pytest.approx(1 / 4)
        assert {one.record["split"] for one in part.judged} == {"calibration", "test"}
        assert {optimizer(one.record) for one in part.judged} == {own}
        for one in part.judged:
            assert one.votes["reversal on samples"] >= part.level
            if one.record["backdoor"] is not None:
                assert one.votes["reversal on samples"] == pytest.approx(part.level)


@pytest.mark.parametrize(
    ("training", "name"),
    [
        (None, "not recorded"),
        (make_training(), "AdamW"),
        (make_training(momentum=0.9), "SGD"),
        (make_training(kernel_learning_rate=0.1), "Muon"),
    ],
)
def test_networks_are_told_apart_by_what_trained_their_kernels(training, name):
    assert optimizer({} if training is None else {"training": asdict(training)}) == name


def test_the_command_tells_what_other_optimizers_references_say(zoo, fitted, tmp_path):
    give_optimizers(zoo)
    command = ["litmus", "calibrate", "--pack", str(fitted), "--zoo", str(zoo), "--families", "patch"]
    assert main([*command, "--out", str(tmp_path / "pack.npz"), "--results", str(tmp_path)]) == 0
    figures = json.loads((tmp_path / "reversal-mnist.json").read_text())
    assert set(figures["left out"]) == {"Muon"}
    assert set(figures["by optimizer"]) == {"AdamW", "Muon"}
    caught = figures["left out"]["Muon"]["votes"]["all checks, samples"]["poisoned"]
    text = (tmp_path / "reversal-mnist.md").read_text()
    row = f"| all checks, samples | 1.000 | {caught['failed']}/{caught['networks']} |"
    assert caught["failed"] == caught["networks"] > 0
    assert any(line.startswith("| Muon | 3 | 25.0% | ") and row in line for line in text.splitlines())


def test_the_command_writes_a_pack_and_its_figures(zoo, fitted, tmp_path, monkeypatch):
    monkeypatch.setattr("reference_attacks.detectors.calibration_table.SIGNIFICANCE", 0.25)
    out, results = tmp_path / "pack.npz", tmp_path / "results"
    command = ["litmus", "calibrate", "--pack", str(fitted), "--zoo", str(zoo), "--families", "patch"]
    assert main([*command, "--out", str(out), "--results", str(results)]) == 0
    assert set(load_pack(out).references) == NAMES
    figures = json.loads((results / "reversal-mnist.json").read_text())
    assert str(tmp_path) not in json.dumps(figures)
    votes = figures["votes"]["reversal on samples"]
    assert votes["auc"] == 1
    assert votes["poisoned"] == {"networks": 3, "failed": 3, "interval_95": [0.2924, 1.0]}
    assert votes["clean"]["networks"] == 3
    assert figures["target"]["reversal on samples"] == {"caught": 3, "right": 3}
    assert list(figures["by architecture"]) == ["plain"]
    text = (results / "reversal-mnist.md").read_text()
    assert "| reversal on samples | 1.000 (1.000 to 1.000) | 3 of 3 (29.2% to 100.0%) |" in text
    assert "right in 3 of 3 caught networks" in text
