"""The example repository of the documentation: its suite passes, and fails once its model is another one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pytest_backdoor.cli import main
from reference_attacks.data import data_root

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "docs" / "examples"
FOLDER = EXAMPLES / "repository"


@pytest.fixture
def copy(tmp_path):
    pytest.importorskip("torch")
    return Path(shutil.copytree(FOLDER, tmp_path / "repository"))


def run(folder, *arguments):
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-o", "addopts=", *arguments]
    return subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, encoding="utf-8", check=False)


def test_its_suite_passes(copy, monkeypatch):
    pytest.importorskip("torchvision")
    folder = data_root()
    if not (folder / "MNIST").is_dir():
        pytest.skip(f"MNIST is not in {folder}; set $BACKDOOR_DATA_ROOT.")
    monkeypatch.setenv("MNIST_ROOT", os.path.abspath(folder))
    ran = run(copy)
    assert ran.returncode == 0, ran.stdout
    assert "3 passed" in ran.stdout


def test_its_suite_fails_for_another_model(copy):
    shutil.copy(EXAMPLES / "mnist-badnet.onnx", copy / "models" / "digits.onnx")
    ran = run(copy, "-k", "reviewed")
    assert ran.returncode == 1
    assert "models/digits.onnx is suspicious" in ran.stdout
    assert "target     class 3" in ran.stdout


def test_its_lock_file_lists_its_model(capsys):
    assert main(["lock", "check", "--lock", str(FOLDER / "models.lock")]) == 0
    assert "ok    models/digits.onnx" in capsys.readouterr().out


def test_its_model_is_the_clean_example():
    # Git keeps one copy of equal files.
    assert (FOLDER / "models/digits.onnx").read_bytes() == (EXAMPLES / "mnist-clean.onnx").read_bytes()


def test_its_workflow_uses_inputs_that_exist():
    workflow = yaml.safe_load((FOLDER / ".github/workflows/models.yml").read_text(encoding="utf-8"))
    action = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    (step,) = [step for step in workflow["jobs"]["scan"]["steps"] if "pytest-backdoor@" in step["uses"]]
    assert set(step["with"]) <= set(action["inputs"])
    hooks = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    (used,) = yaml.safe_load((FOLDER / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert {hook["id"] for hook in used["hooks"]} == {hook["id"] for hook in hooks}
