"""``pytest-backdoor examples``."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_backdoor.cli import main

EXAMPLES = Path(__file__).resolve().parent.parent / "docs" / "examples"
NAMES = ("mnist-badnet.onnx", "mnist-clean.onnx")


def test_they_are_those_of_the_documentation(tmp_path, capsys):
    folder = tmp_path / "new folder"
    assert main(["examples", str(folder)]) == 0
    for name in NAMES:
        assert (folder / name).read_bytes() == (EXAMPLES / name).read_bytes()
    assert f"pytest --backdoor-scan '{folder / NAMES[0]}'" in capsys.readouterr().out


def test_the_current_folder_is_the_default(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["examples"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(NAMES)
    assert "pytest --backdoor-scan mnist-badnet.onnx" in capsys.readouterr().out


def test_a_folder_that_cannot_be_made(tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    assert main(["examples", str(tmp_path / "file")]) == 2
    assert "The examples cannot be copied" in capsys.readouterr().err


@pytest.mark.parametrize("name", NAMES)
def test_the_wheel_holds_them(name):
    text = (EXAMPLES.parent.parent / "pyproject.toml").read_text(encoding="utf-8")
    assert f'"docs/examples/{name}" = "pytest_backdoor/examples/{name}"' in text
