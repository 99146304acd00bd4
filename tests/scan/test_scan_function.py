from __future__ import annotations

import subprocess
import sys

import pytest

import pytest_backdoor


def test_scan_works_again_and_again(made):
    settings = {"root": made, "pack": "pack.npz", "checks": ("litmus",), "fpr": 0.01}
    for name, verdict in (("clean.onnx", "clean"), ("bad.onnx", "suspicious"), ("clean.onnx", "clean")):
        report = pytest_backdoor.scan(made / name, **settings)
        assert report.verdict == verdict
        assert report.models[0].path == name


def test_a_missing_model_and_an_unknown_setting_are_settings_errors(made):
    with pytest.raises(pytest_backdoor.SettingsError, match=r"no model file .*nothing\.onnx"):
        pytest_backdoor.scan(made / "nothing.onnx")
    with pytest.raises(pytest_backdoor.SettingsError, match="Did you mean 'checks'"):
        pytest_backdoor.scan(made / "clean.onnx", chekcs=("litmus",))


def test_every_public_name_is_there_and_importing_costs_nothing_heavy():
    code = (
        "import sys, pytest_backdoor; [getattr(pytest_backdoor, name) for name in pytest_backdoor.__all__];"
        "print([name for name in ('numpy', 'onnx', 'onnxruntime', 'torch', 'pytest') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    with pytest.raises(AttributeError):
        _ = pytest_backdoor.no_such_name
