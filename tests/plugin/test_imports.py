from __future__ import annotations

import pytest

HEAVY = ("numpy", "onnx", "onnxruntime", "torch", "PIL", "rich", "huggingface_hub")
SHOW = """
import sys
def pytest_unconfigure(config): print("imported:", sorted(set(sys.modules) & {names!r}))
"""


def imported(project, *arguments, names=(*HEAVY, "pytest_backdoor.scanning")):
    """Which of ``names`` a run of pytest in a process of its own imports."""
    project.write("conftest.py", SHOW.format(names=set(names)))
    result = project.pytester.runpytest_subprocess("-p", "no:cacheprovider", *arguments)
    (line,) = (line for line in result.outlines if line.startswith("imported:"))
    return result, line.removeprefix("imported: ")


@pytest.fixture
def plain(project):
    """A repository with a test that has nothing to do with models."""
    project.write("test_plain.py", "def test_plain(): pass")
    return project


def test_plain_run(plain):
    result, found = imported(plain)
    result.assert_outcomes(passed=1)
    assert found == "[]"


def test_help(plain):
    result, found = imported(plain, "--help")
    assert found == "[]"
    result.stdout.fnmatch_lines(["backdoor scan of neural networks:", "  --backdoor-scan *"])


def test_collecting_models(plain):
    plain.add()
    result, found = imported(plain, "--backdoor-scan", "model.onnx", "--collect-only", names=HEAVY)
    assert result.ret == 0
    assert found == "[]"


def test_scanning_imports_nothing_heavy_into_the_test_process(plain):
    plain.add()
    arguments = ("--backdoor-scan", "--backdoor-checks=litmus", "model.onnx", "--backdoor-report=report.json")
    result, found = imported(plain, *arguments, names=HEAVY)
    result.assert_outcomes(passed=1)
    assert found == "[]"


def test_litmus_scan_does_without_torch(plain, monkeypatch):
    source = "from pathlib import Path\nPath(__file__).with_name('imported').touch()\nraise ImportError('no torch')"
    plain.write("site/torch/__init__.py", source)
    monkeypatch.setenv("PYTHONPATH", str(plain.path / "site"))
    plain.add()
    result = plain.scan_apart("model.onnx", "--backdoor-checks=provenance,litmus")
    result.assert_outcomes(passed=1, skipped=1)
    assert not (plain.path / "site/torch/imported").exists()
    without = plain.scan_apart("model.onnx", "--backdoor-checks=reversal", "-rs")
    assert (plain.path / "site/torch/imported").exists()
    without.stdout.fnmatch_lines(["SKIPPED *Trigger reversal needs torch*pip install 'pytest-backdoor[[]torch[]]'*"])


def test_switched_off(plain):
    result = plain.pytester.runpytest_subprocess("-p", "no:backdoor")
    result.assert_outcomes(passed=1)
    off = plain.pytester.runpytest_subprocess("-p", "no:backdoor", "--backdoor-scan")
    assert off.ret == pytest.ExitCode.USAGE_ERROR


def test_without_autoloading(plain, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    plain.add()
    result = plain.pytester.runpytest_subprocess(
        "-p", "pytest_backdoor.plugin", "--backdoor-scan", "--backdoor-checks=litmus", "model.onnx"
    )
    assert result.ret == 0
    result.assert_outcomes(passed=1)
