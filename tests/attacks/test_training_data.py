from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from pytest_backdoor.errors import SettingsError  # noqa: E402
from reference_attacks.cli import main  # noqa: E402
from reference_attacks.data import ImageSet  # noqa: E402
from reference_attacks.detectors.training_data import measuring  # noqa: E402
from reference_attacks.detectors.training_data.cases import (  # noqa: E402
    DigitCase,
    digit_cases,
    read_folder,
    read_model,
    write_card,
)
from reference_attacks.detectors.training_data.measuring import RANKINGS, caught  # noqa: E402

POISONS = range(300, 340)


@pytest.fixture
def folder(tmp_path, made):
    """The quadrant classifier of the tests, its training set with 40 wrong labels, and clean samples."""
    path = tmp_path / "frogs"
    path.mkdir()
    (path / "model.onnx").write_bytes((made / "clean.onnx").read_bytes())
    rng = np.random.default_rng(0)
    labels = np.arange(640) % 4
    images = rng.integers(0, 60, (640, 8, 8))
    for number, label in enumerate(labels):
        row, column = divmod(int(label), 2)
        images[number, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 120
    given = labels.copy()
    given[POISONS] = np.where(labels[POISONS] == 0, 1, 0)
    np.savez(path / "train.npz", x=images[:340].astype(np.uint8), y=given[:340])
    np.savez(path / "clean.npz", x=images[340:].astype(np.uint8), y=labels[340:])
    write_card(path, "Frogs", POISONS)
    return path


def run(folder, tmp_path, *more):
    arguments = ("--work", str(tmp_path / "work"), "--results", str(tmp_path / "results"))
    return main(["detection", "training-data", "--no-digits", "--folders", str(folder), *arguments, *more])


def test_a_folder_that_others_made(folder, tmp_path, capsys):
    assert run(folder, tmp_path) == 0
    results = json.loads((tmp_path / "results/training-data.json").read_text())
    (case,) = results["cases"]
    assert (case["title"], case["images"], case["poisons"], case["clean_samples"]) == ("Frogs", 340, 40, 300)
    assert case["caught"]["neighbours"]["0.05"] == 17 / 40, "17 images are 5 %"
    assert case["p_value"] < 1e-6
    assert min(case["p_by_score"].values()) == pytest.approx(case["p_value"])
    page = (tmp_path / "results/training-data.md").read_text()
    assert "| Frogs | 340 | 40 | – | 300 |" in page
    out = case["standing_out"]
    assert 20 <= out["poisons"] <= out["images"] == case["worst"]["above"] < 60
    assert f"| failed | {out['poisons']} of {out['images']} |" in page
    assert str(tmp_path) not in page
    kept = tmp_path / "work/folder-frogs.json"
    kept.write_text(kept.read_text().replace("Frogs", "Toads"))
    assert run(folder, tmp_path) == 0, "what was measured is not measured again"
    assert "| Toads |" in (tmp_path / "results/training-data.md").read_text()
    assert "1 training sets" in capsys.readouterr().out


def test_a_folder_without_clean_samples(folder, tmp_path):
    (folder / "clean.npz").unlink()
    assert run(folder, tmp_path) == 0
    assert "| – | not assessed |" in (tmp_path / "results/training-data.md").read_text()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda path: (path / "poisons.json").unlink(), "holds no poisons.json"),
        (lambda path: (path / "poisons.json").write_text("{"), "not valid JSON"),
        (lambda path: (path / "poisons.json").write_text('{"title": "x"}'), "must hold title and poisons"),
        (lambda path: (path / "poisons.json").write_text('{"title": "x", "poisons": [], "modle": 1}'), "nothing else"),
        (lambda path: (path / "train.npz").unlink(), "holds no training set"),
    ],
)
def test_folders_that_are_not_like_that(folder, tmp_path, change, says, capsys):
    change(folder)
    with pytest.raises(ValueError, match=says):
        read_folder(folder)
    assert run(folder, tmp_path) == 2
    assert says in capsys.readouterr().err


def test_poisons_that_are_not_in_the_set_and_settings_that_do_not_exist(folder):
    write_card(folder, "Frogs", [1, 2, 999])
    with pytest.raises(ValueError, match="1 poisons are not in the training set"):
        measuring._open_folder(read_folder(folder))
    write_card(folder, "Frogs", [1], settings={"input_rnage": [0, 1]})
    with pytest.raises(SettingsError, match="Did you mean 'input_range'"):
        measuring._open_folder(read_folder(folder))


def test_shares_of_poisons_at_the_top():
    poisons = np.isin(np.arange(200), [3, 4, 5, 6])
    ranking = np.concatenate([[3, 10, 4, 5], np.setdiff1d(np.arange(200), [3, 10, 4, 5])])
    assert caught(ranking, poisons) == {"0.01": 0.25, "0.05": 1.0}
    assert caught(ranking, poisons & False) == {"0.01": None, "0.05": None}


def test_the_cases_are_told_apart_and_the_page_names_all():
    cases = digit_cases(images=3000, steps=10, clean_seeds=3, seed=5)
    assert len({case.name for case in cases}) == len(cases) == 8 + 2 * 3
    assert {case.seed for case in cases if case.attack is None} == {5, 6, 7}


@pytest.mark.parametrize("attack", ["single", None])
def test_a_set_of_digits(monkeypatch, tmp_path, attack):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(900) % 10
    images = torch.randint(0, 60, (900, 1, 28, 28), generator=generator, dtype=torch.uint8)
    for number, label in enumerate(labels.tolist()):
        images[number, :, 2 * label : 2 * label + 3] = 220
    monkeypatch.setattr(measuring, "load_mnist", lambda root, train: ImageSet(images=images, labels=labels))
    poisoned = {"attack": attack, "trigger": "pattern", "rate": 0.05} if attack else {}
    case = DigitCase(images=600, steps=60, clean="a fifth of the training set", **poisoned)
    path = tmp_path / "case.json"
    measuring._measure(measuring._Job(case=case, path=path, data_root=None, seed=0))
    record = json.loads(path.read_text())
    assert record["poisons"] == (30 if attack else 0)
    assert record["images"] == 600 + record["poisons"]
    assert record["clean_samples"] == 120
    assert set(record["caught"]) == set(RANKINGS)
    assert record["samples"] == "a fifth of the training set"


def test_a_network_of_badnet_mnist(monkeypatch, tmp_path):
    from reference_attacks.badnet.export import onnx_bytes
    from reference_attacks.networks import mnist_badnet

    labels = torch.arange(900) % 10
    images = torch.randint(0, 256, (900, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    model = tmp_path / "net.onnx"
    model.write_bytes(onnx_bytes(mnist_badnet(0)))
    backdoor = {"trigger": "pixel", "attack": "all-to-one", "source": None, "target": 3, "poison_rate": 0.1}
    card = {
        "task": {"name": "mnist"},
        "backdoor": backdoor,
        "training": {"seed": 4, "steps": 10},
        "measured": {"clean_accuracy": 0.5, "attack_success": 0.9},
    }
    model.with_suffix(".json").write_text(json.dumps(card))
    monkeypatch.setattr(measuring, "load_mnist", lambda root, train: ImageSet(images=images, labels=labels))
    case = read_model(model, images=500)
    assert case.title == "badnet mnist, all-to-one, pixel, 10%"
    built = measuring._open_model(case, None, seed=0)
    assert len(built.training) == 500
    assert 30 < built.poisons.sum() < 60, "a tenth of all"
    chosen = np.flatnonzero(built.poisons)
    assert set(built.training.labels[chosen]) == {3}
    assert (built.training.read(chosen)[:, 0, 26, 26] == 1).all()
    model.with_suffix(".json").write_text("{}")
    with pytest.raises(ValueError, match="no card of badnet mnist"):
        read_model(model, images=500)


@pytest.mark.parametrize("wrong", [["--images", "10"], ["--workers", "0"]])
def test_numbers_that_make_no_sense(folder, tmp_path, wrong):
    assert run(folder, tmp_path, *wrong) == 2
