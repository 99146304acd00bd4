"""The hooks of .pre-commit-hooks.yaml, run by pre-commit on a repository of their user."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import yaml
from actions_runner import ROOT

pytest.importorskip("pre_commit")
HOOKS = {hook["id"]: hook for hook in yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))}


@pytest.fixture
def repository(project, monkeypatch):
    """The project as a git repository that uses the hooks, in the environment that the tests run in."""
    # Installed from PyPI, each would have an environment of its own: what is tried here is what they run, and on what.
    hooks = [{**hook, "language": "unsupported"} for hook in HOOKS.values()]
    project.write(".pre-commit-config.yaml", yaml.safe_dump({"repos": [{"repo": "local", "hooks": hooks}]}))
    folder = os.path.dirname(sys.executable)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PRE_COMMIT_HOME", str(project.path / ".home"))
    for name in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"):
        monkeypatch.setenv(name, "tester@example.org")
    git(project, "init", "-q")
    return project


def git(project, *arguments):
    subprocess.run(["git", *arguments], cwd=project.path, check=True, stdout=subprocess.PIPE)


def run_hook(project, *arguments):
    git(project, "add", ".")
    command = [sys.executable, "-m", "pre_commit", "run", "--verbose", *arguments]
    ran = subprocess.run(command, cwd=project.path, stdout=subprocess.PIPE, encoding="utf-8", check=False)
    return ran.returncode, ran.stdout


def lock(project, *names):
    from pytest_backdoor.cli import main

    files = [str(project.path / name) for name in names]
    assert main(["lock", "add", "--allow-ci", "--lock", str(project.path / "models.lock"), *files]) == 0


def test_lock_hook(repository):
    repository.add("models/a b.onnx")
    lock(repository, "models/a b.onnx")
    status, text = run_hook(repository, "backdoor-lock")
    assert status == 0, text
    assert "ok    models/a b.onnx" in text
    repository.add("models/new.onnx", kind="bad")
    status, text = run_hook(repository, "backdoor-lock")
    assert status == 1
    assert "models/new.onnx is not listed in models.lock" in text
    lock(repository, "models/new.onnx")
    repository.add("models/a b.onnx", kind="bad")
    status, text = run_hook(repository, "backdoor-lock")
    assert status == 1
    assert "hash-mismatch: models/a b.onnx" in text


def test_lock_hook_runs_for_models_alone(repository):
    repository.write("readme.txt", "no model")
    status, text = run_hook(repository, "backdoor-lock")
    assert status == 0
    assert "no files to check" in text


def test_scan_hook(repository):
    # Neither the project's own tests nor their settings are part of it.
    repository.write("conftest.py", "import something_that_the_hook_lacks")
    repository.configure("checks = ['litmus']", pytest_options="addopts = ['--no-such-option']")
    repository.add("models/good.onnx")
    stage = ("--hook-stage", "pre-push", "--all-files")
    status, text = run_hook(repository, *stage, "backdoor-scan")
    assert status == 0, text
    repository.add("models/bad.onnx", kind="bad")
    status, text = run_hook(repository, *stage, "backdoor-scan")
    assert status == 1
    assert "suspicious  models/bad.onnx" in text
    assert "clean       models/good.onnx" in text


def test_scan_hook_waits_for_the_push(repository):
    assert HOOKS["backdoor-scan"]["stages"] == ["pre-push", "manual"]
    assert "stages" not in HOOKS["backdoor-lock"]
