from __future__ import annotations

import jsonschema
import numpy as np
import pytest
from PIL import Image
from test_third_party import SCHEMA

from pytest_backdoor.checks import check_names, planned_checks
from pytest_backdoor.settings import ScanSettings

pytestmark = pytest.mark.skipif(
    "training-data" not in check_names(), reason="the package was installed before this check: install it again"
)
ONLY = ("--backdoor-checks=training-data",)
TRAINING, CLEAN, POISONS = 600, 400, 60


def quadrants(count, seed):
    """uint8 images of four classes, a bright quadrant each, with noise; and their labels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 4
    images = rng.integers(0, 60, (count, 8, 8))
    for number, label in enumerate(labels):
        row, column = divmod(int(label), 2)
        images[number, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 120
    return images.astype(np.uint8), labels


@pytest.fixture
def sets(project):
    """train.npz, poisoned.npz (images of class 1 with the label 0) and clean.npz in the project."""
    images, labels = quadrants(TRAINING, 0)
    np.savez(project.path / "train.npz", x=images, y=labels)
    others = images[labels == 1][:POISONS]
    poisoned = np.concatenate([images, np.clip(others + np.uint8(1), 0, 255)])
    np.savez(project.path / "poisoned.npz", x=poisoned, y=np.concatenate([labels, np.zeros(POISONS, int)]))
    images, labels = quadrants(CLEAN, 1)
    np.savez(project.path / "clean.npz", x=images, y=labels)
    np.savez(project.path / "unlabelled.npz", x=images)
    project.add()
    return project


def scanned(project, *arguments):
    result = project.run("--backdoor-scan", "model.onnx", *ONLY, *arguments, "--backdoor-report=report.json")
    jsonschema.validate(project.read_report(), SCHEMA)
    return result, project.findings()["model.onnx::training-data"]


def test_a_poisoned_training_set_fails(sets):
    result, finding = scanned(sets, "--backdoor-train-data=poisoned.npz", "--backdoor-data=clean.npz")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert (finding["outcome"], finding["behavioural"], finding["seed"]) == ("failed", False, 0)
    assert 0 < finding["p_value"] < 1e-6
    assert finding["score"] > 6
    evidence = finding["evidence"]
    assert evidence["images"] == TRAINING + POISONS
    assert evidence["clean_samples"] == CLEAN
    assert evidence["worst"]["class"] == "0"
    first = evidence["suspects"][: evidence["top_5_percent"]]
    assert {int(name) >= TRAINING for name in first} == {True}
    assert evidence["most_suspicious"][0]["nearest"] == "1"
    shown = [suspect["image"] for suspect in evidence["most_suspicious"]]
    assert len(evidence["standing_out"]) == evidence["worst"]["above"]
    assert shown == evidence["standing_out"][: len(shown)]
    planted = [int(name) >= TRAINING for name in evidence["standing_out"]]
    assert sum(planted) == POISONS
    assert all(planted[: POISONS // 2])
    assert set(evidence["suspects_by_score"]) == {"neighbours", "spectral", "loss"}
    assert not any(key.endswith("_png") for key in evidence)
    result.stdout.fnmatch_lines(
        [
            "Of the * training images of class 0, 6* than any of 100 clean",
            "  suspects   6*: class 0, nearest to class 1",
            "  what next  Look at the images that stand out*",
            "  again      pytest --backdoor-scan model.onnx::training-data *--backdoor-train-data *",
            "suspicious  model.onnx  training-data FAILED",
        ]
    )


def test_a_clean_training_set_passes_and_leaves_the_model_unverified(sets):
    result, finding = scanned(sets, "--backdoor-train-data=train.npz", "--backdoor-data=clean.npz")
    assert finding["outcome"] == "passed"
    assert finding["p_value"] > 0.01
    assert finding["evidence"]["standing_out"] == []
    assert f"Fewer than {finding['evidence']['fewest_to_fail']} poisoned images" in finding["summary"]
    assert sets.read_report()["models"][0]["verdict"] == "unverified", "nobody has looked at what the model does"
    assert result.ret == pytest.ExitCode.TESTS_FAILED


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "There are no clean samples to compare the training images with."),
        (("--backdoor-data=unlabelled.npz",), "The clean samples have no labels"),
    ],
)
def test_without_labelled_clean_samples_images_are_ranked_and_not_judged(sets, arguments, says):
    result, finding = scanned(sets, "--backdoor-train-data=poisoned.npz", *arguments)
    assert finding["outcome"] == "not_assessed"
    assert says in finding["summary"]
    assert "Give clean samples with labels" in finding["remedy"]
    assert finding["p_value"] is None
    assert int(finding["evidence"]["suspects"][0]) >= TRAINING
    assert finding["evidence"]["comparisons"] is None
    result.assert_outcomes(skipped=1)


def test_too_few_clean_samples_of_a_class_do_not_pass(sets):
    images, labels = quadrants(CLEAN, 1)
    keep = (labels != 2) | (np.arange(CLEAN) < 30)
    np.savez(sets.path / "few.npz", x=images[keep], y=labels[keep])
    _, finding = scanned(sets, "--backdoor-train-data=train.npz", "--backdoor-data=few.npz")
    assert finding["outcome"] == "not_assessed"
    assert "1 of 4 classes of the training set have too few clean samples" in finding["summary"]


def test_folders_of_images_and_names_of_classes(sets):
    images, labels = quadrants(80, 3)
    names = ("d", "c", "b", "a")
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = sets.path / "tree" / names[label] / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    (sets.path / "tree/d/000.png").rename(sets.path / "tree/b/planted.png")
    table = f"[[tool.pytest-backdoor.models]]\npath = '*.onnx'\nclasses = {list(names)}\ntrain_data = 'tree'"
    sets.configure(models=table)
    _, finding = scanned(sets)
    first = finding["evidence"]["most_suspicious"][0]
    assert (first["image"], first["label"], first["nearest"]) == ("b/planted.png", "2 (b)", "0 (d)")


def test_the_check_is_planned_where_there_is_a_training_set():
    assert "training-data" not in planned_checks(ScanSettings())
    assert planned_checks(ScanSettings(train_data="x.npz"))[-1] == "training-data"
    assert planned_checks(ScanSettings(checks=("training-data",))) == ("training-data",)
    assert "training-data" not in planned_checks(ScanSettings(checks=("litmus",), train_data="x.npz"))


def test_all_checks_share_the_rate(sets):
    arguments = ("--backdoor-train-data=train.npz", "--backdoor-data=clean.npz", "--backdoor-report=report.json")
    result = sets.run("--backdoor-scan", "model.onnx", "--backdoor-checks=litmus,training-data", *arguments)
    assert result.ret == 0
    findings = sets.findings()
    assert findings["model.onnx::litmus"]["evidence"]["reference"]["significance"] == pytest.approx(0.01 * 0.995)
    assert findings["model.onnx::training-data"]["evidence"]["significance"] == pytest.approx(0.01 * 0.005)
    sets.run("--backdoor-scan", "model.onnx", "--backdoor-checks=litmus,training-data", arguments[0], arguments[2])
    alone = sets.findings()["model.onnx::litmus"]
    assert alone["evidence"]["reference"]["significance"] == 0.01, "a training set that cannot be judged costs nothing"


def test_typed_without_a_training_set(sets):
    result, finding = scanned(sets)
    assert finding["outcome"] == "not_assessed"
    assert "--backdoor-train-data" in finding["remedy"]
    assert result.ret != 0


@pytest.mark.parametrize("name", ["nothing.npz", "no-folder"])
def test_a_training_set_that_is_not_there_is_a_usage_error(sets, name):
    result = sets.run("--backdoor-scan", "model.onnx", f"--backdoor-train-data={name}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*--backdoor-train-data: there is no *{name}; check the path*"])


def test_a_training_set_that_does_not_fit_is_an_error_of_this_check_alone(sets):
    np.savez(sets.path / "other.npz", x=np.zeros((20, 9, 9), np.uint8), y=np.zeros(20, int))
    arguments = ("--backdoor-train-data=other.npz", "--backdoor-report=report.json")
    sets.run("--backdoor-scan", "model.onnx", "--backdoor-checks=litmus,training-data", *arguments)
    assert sets.outcomes()["model.onnx"] == {"litmus": "passed", "training-data": "error"}
    assert "resize them" in sets.findings()["model.onnx::training-data"]["summary"]


def test_in_the_mark_and_distributed(sets):
    pytest.importorskip("xdist")
    source = (
        "import pytest\n@pytest.mark.backdoor_scan('model.onnx', checks=['training-data'], {})\ndef test_own(): pass\n"
    )
    sets.write("test_own.py", source.format("train_data='poisoned.npz', data='clean.npz'"))
    result = sets.run("test_own.py", "-n2")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*Of the * training images of class 0, *"])
    arguments = ("--backdoor-train-data=poisoned.npz", "--backdoor-data=clean.npz", "-k", "not test_own")
    for name, more in (("alone.json", ()), ("shared.json", ("-n2",))):
        sets.run("--backdoor-scan", "model.onnx", *ONLY, *arguments, *more, f"--backdoor-report={name}")
    assert sets.read_report("alone.json", timeless=True) == sets.read_report("shared.json", timeless=True)


def test_a_live_network(sets):
    torch = pytest.importorskip("torch")
    import pytest_backdoor

    weights = torch.zeros(4, 8, 8)
    for label in range(4):
        row, column = divmod(label, 2)
        weights[label, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = 1
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 4, bias=False))
    network[1].weight.data = weights.flatten(1)
    report = pytest_backdoor.scan(
        network, root=sets.path, checks=["training-data"], train_data="poisoned.npz", data="clean.npz"
    )
    (finding,) = report.models[0].findings
    assert finding.outcome == "failed"
