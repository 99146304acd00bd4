"""Victims of poisoning attacks as files, and what the audit's commands read in them."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("torchvision")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from made_up_zoos import make_images  # noqa: E402

from pytest_backdoor.models import Subject  # noqa: E402
from pytest_backdoor.settings import ScanSettings  # noqa: E402
from reference_attacks.detectors.matrix.groups import Group, find_models  # noqa: E402
from reference_attacks.detectors.training_data.cases import read_folder  # noqa: E402
from reference_attacks.networks import make_network  # noqa: E402
from reference_attacks.victim_files import Victim, write_victim  # noqa: E402

SHAPE, CLASSES = (3, 24, 24), 3


@pytest.fixture
def victim():
    return Victim(
        name="first",
        title="Some attack: dog to frog",
        row="some attack",
        success=1.0,
        target=2,
        network=make_network("small-alexnet", SHAPE, CLASSES).eval(),
        training=make_images(12, SHAPE, CLASSES, 0),
        poisons=torch.tensor([10, 11]),
        clean=make_images(9, SHAPE, CLASSES, 1),
        notes={"seed": 0},
    )


def test_the_matrix_finds_victims_and_controls(victim, tmp_path):
    write_victim(victim, tmp_path)
    write_victim(replace(victim, name="control", row=None, success=None, target=None), tmp_path)
    group = Group(name="made-up", title="Made up", folders=(".",), files=("*/model.onnx",))
    control, found = find_models(group, tmp_path)
    assert (found.name, found.row.attack, found.row.target, found.row.works) == ("first-model", "some attack", 2, True)
    assert not control.row.poisoned


def test_the_training_set_is_read_with_its_poisons(victim, tmp_path):
    case = read_folder(write_victim(victim, tmp_path))
    assert case.poisons == ("10", "11")
    arrays = np.load(case.training)
    assert (arrays["x"].transpose(0, 3, 1, 2) == victim.training.images.numpy()).all()
    assert (arrays["y"] == victim.training.labels.numpy()).all()
    assert case.clean is not None


def test_the_model_is_the_network(victim, tmp_path):
    path = write_victim(victim, tmp_path) / "model.onnx"
    opened = Subject("first", ScanSettings(), path=path).classifier
    images = victim.clean.images.float() / 255
    with torch.no_grad():
        expected = victim.network(images).numpy()
    expected -= expected.mean(1, keepdims=True)
    np.testing.assert_allclose(opened.logits(images.numpy()), expected, rtol=1e-3, atol=1e-4)
    assert json.loads(path.with_suffix(".json").read_text())["seed"] == 0
