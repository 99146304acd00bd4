"""MetaPoison's poisons and victims as files, and the commands that read and write them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")
pytest.importorskip("onnxscript")

from frog_sets import write_cifar10  # noqa: E402
from made_up_metapoison import make_folder, make_trial  # noqa: E402

from reference_attacks.cli import main  # noqa: E402
from reference_attacks.detectors.matrix.groups import Group, find_models  # noqa: E402
from reference_attacks.detectors.training_data.cases import read_folder  # noqa: E402
from reference_attacks.metapoison.evaluating import evaluate  # noqa: E402
from reference_attacks.metapoison.finished import open_finished  # noqa: E402
from reference_attacks.metapoison.images import choose_images  # noqa: E402
from reference_attacks.metapoison.poison_files import DataChoice, PoisonFile, read_poisons, write_poisons  # noqa: E402
from reference_attacks.metapoison.runs import VictimRun  # noqa: E402
from reference_attacks.metapoison.trials import make_problem  # noqa: E402
from reference_attacks.tasks import load_task  # noqa: E402
from reference_attacks.training import predict  # noqa: E402

DATA = DataChoice(classes=(4, 1, 7), train_images=18, seed=5)


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    return write_cifar10(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def poisons_path(data_root, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("poisons") / "poisons.npz"
    write_poisons(make_poisons(data_root), path)
    return path


def make_poisons(data_root: str) -> PoisonFile:
    """Two poisons of class 1, of pixels that are eight levels brighter."""
    trial, numbers = make_trial(budget=0.12), torch.tensor([8])
    images = choose_images(*load_task("cifar10", data_root), DATA.classes, DATA.train_images, DATA.seed)
    problem = make_problem(trial, images.training, images.test, numbers, len(DATA.classes))
    return PoisonFile(
        trial=trial,
        data=DATA,
        problem=problem,
        images=(problem.bases.int() + 8).clamp(max=255).to(torch.uint8),
        target_numbers=numbers,
    )


def test_chosen_images_are_labelled_by_the_places_of_their_classes(data_root):
    train, test = load_task("cifar10", data_root)
    images = choose_images(train, test, DATA.classes, DATA.train_images, DATA.seed)
    assert images.training.labels.bincount().tolist() == [6, 6, 6]
    assert images.test.of_class(2).images.equal(test.of_class(7).images)


def test_poisons_are_read_with_their_training_set(poisons_path, data_root):
    written = make_poisons(data_root)
    found, images = read_poisons(poisons_path, data_root)
    assert found.trial == written.trial
    assert found.images.equal(written.images)
    assert found.problem.poisons.equal(written.problem.poisons)
    assert images.training.images[found.problem.poisons].equal(written.problem.bases)
    assert images.test.images[8].equal(found.problem.targets[0])
    with np.load(poisons_path, allow_pickle=False) as arrays:
        assert (arrays["label"], arrays["wanted_labels"].tolist(), arrays["target_labels"].tolist()) == (1, [1], [0])


def test_poisons_of_other_images_are_refused(poisons_path, data_root, tmp_path):
    other = write_cifar10(tmp_path / "data", train=9)
    with pytest.raises(ValueError, match="other images than the data root holds"):
        read_poisons(poisons_path, other)
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(ValueError, match="holds no poisons of metapoison craft"):
        read_poisons(tmp_path / "other.npz", data_root)


def train(poisons_path, data_root, out, *options: str) -> int:
    words = ["--poisons", str(poisons_path), "--out", str(out), "--data-root", data_root, "--workers", "1"]
    training = [
        "--network",
        "small-convnet",
        "--epochs",
        "2",
        "--batch",
        "6",
        "--device",
        "cpu",
        "--precision",
        "float32",
    ]
    return main(["metapoison", "train", *words, *training, *options])


@pytest.fixture(scope="module")
def trained(poisons_path, data_root, tmp_path_factory):
    """A folder of exported victims: two poisoned ones and a clean one."""
    out = tmp_path_factory.mktemp("victims")
    assert train(poisons_path, data_root, out, "--victims", "2") == 0
    assert train(poisons_path, data_root, out, "--victims", "1", "--arm", "clean") == 0
    return out


def test_victims_have_a_card_that_the_matrix_reads(trained):
    group = Group(name="metapoison", title="MetaPoison", folders=(".",), files=("*/model.onnx",))
    clean, *poisoned = find_models(group, trained)
    assert not clean.row.poisoned
    assert len(poisoned) == 2
    for model in poisoned:
        assert model.row.attack == "MetaPoison, 12 % of the images, ε = 16/255"
        assert model.row.target == 1
        assert model.card["class_names"] == ["deer", "automobile", "horse"]
        assert model.card["matrix"]["success"] == model.card["measured"]["success"]
        assert model.card["targets"] == [8]


def test_victims_lie_beside_their_training_set(trained, data_root):
    written = make_poisons(data_root)
    poisoned, clean = (read_folder(next(trained.glob(f"*-{arm}-victim-0"))) for arm in ("poisoned", "clean"))
    assert poisoned.poisons == tuple(str(number) for number in written.problem.poisons.tolist())
    assert clean.poisons == ()
    for case, images in ((poisoned, written.images), (clean, written.problem.bases)):
        with np.load(case.training) as arrays:
            found = arrays["x"][written.problem.poisons.numpy()]
        assert (found.transpose(0, 3, 1, 2) == images.numpy()).all()
    with np.load(poisoned.clean) as arrays:
        assert len(arrays["y"]) == 17
        assert not (arrays["x"] == written.problem.targets[0].permute(1, 2, 0).numpy()).all((1, 2, 3)).any()


def test_victims_are_looked_at_again(trained, capsys):
    assert main(["metapoison", "evaluate", str(trained), "--each"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 3
    for folder in trained.iterdir():
        said = json.loads((folder / "model.json").read_text())["measured"]
        (found,) = evaluate(folder)
        for name in ("success", "confidence", "validation_accuracy"):
            assert found.measured[name] == pytest.approx(said[name], abs=1e-4)
    assert main(["metapoison", "evaluate", str(trained)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2 + 2
    assert main(["metapoison", "evaluate", str(trained / "nothing")]) == 2
    assert "holds no victims of MetaPoison." in capsys.readouterr().err


def test_victims_that_are_there_are_left_alone(trained, poisons_path, data_root):
    before = {path: path.stat().st_mtime_ns for path in trained.glob("*/*")}
    assert train(poisons_path, data_root, trained, "--victims", "2") == 0
    assert {path: path.stat().st_mtime_ns for path in trained.glob("*/*")} == before


def test_training_without_victims_is_refused(poisons_path, data_root, tmp_path, capsys):
    assert train(poisons_path, data_root, tmp_path, "--victims", "0") == 2
    assert "at least one victim" in capsys.readouterr().err


def test_victims_of_finished_trials_are_exported(tmp_path, capsys):
    folder = make_folder(tmp_path)
    folder.prepare(None)
    common = int(predict(folder.reference(), folder.images().test.images).mode().values)
    trial = make_trial(target_class=common, poison_class=(common + 1) % 3)
    runs = [VictimRun(trial=replace(trial, arm=arm), number=0) for arm in ("poisoned", "clean")]
    folder.build(runs, None)
    export = [
        "metapoison",
        "export",
        str(tmp_path / "tiny"),
        "--out",
        str(tmp_path / "out"),
        "--device",
        "cpu",
        "--precision",
        "bfloat16",
    ]
    export += ["--workers", "1", "--images", str(tmp_path / "images")]
    record = folder.record(runs[0])
    record["evaluation"]["success"][-1] = 0.0
    folder.keep(runs[0], {name: value for name, value in record.items() if name != "run"}, None)
    assert main(export) == 2
    assert "No attack of" in capsys.readouterr().err
    record["evaluation"]["success"][-1] = 1.0
    folder.keep(runs[0], {name: value for name, value in record.items() if name != "run"}, None)
    assert main(export) == 0
    control, path = sorted((tmp_path / "out").iterdir(), key=lambda path: path.name != "control-0")
    assert not read_folder(control).poisons
    # The zoo of a detector pack is trained on the same images.
    pairs = zip(
        load_task(str(tmp_path / "images"), None), (folder.images().training, folder.images().test), strict=True
    )
    for read, meant in pairs:
        order = meant.labels.argsort(stable=True)
        assert torch.equal(read.images, meant.images[order])
        assert torch.equal(read.labels, meant.labels[order])
    card = json.loads((path / "model.json").read_text())
    # The victim is trained again as it was, whatever this machine computes fastest.
    assert (card["seed"], card["precision"], card["crafting"]["steps"]) == (0, "float32", 2)
    assert card["measured"]["confidence"] == pytest.approx(record["evaluation"]["confidence"][-1], abs=1e-4)
    assert read_folder(path).poisons == tuple(str(number) for number in folder.problem(trial).poisons.tolist())
    assert open_finished(tmp_path / "tiny", folder.machine) == folder
    with pytest.raises(ValueError, match="no folder of MetaPoison's trials"):
        open_finished(tmp_path, folder.machine)
    assert len(evaluate(tmp_path / "tiny")) == 2
