from __future__ import annotations

import dataclasses

import pytest

from pytest_backdoor.calibration import load_pack

TABLE = "[[tool.pytest-backdoor.models]]\npath = 'sub/*.onnx'\npack = 'sub/table.npz'\n"


@pytest.fixture
def named_packs(project, made):
    """``sub/typed.npz`` and ``sub/table.npz`` beside the common table's pack; each is named as its file."""
    pack = load_pack(made / "pack.npz")
    for name in ("typed", "table"):
        dataclasses.replace(pack, name=name).save(project.path / "sub" / f"{name}.npz")
    project.configure(models=TABLE)


def used_pack(project):
    return {name: finding["evidence"]["pack"] for name, finding in project.findings().items() if "litmus" in name}


@pytest.mark.parametrize(
    ("model", "typed", "name"),
    [
        ("model.onnx", (), "quadrants"),
        ("sub/model.onnx", (), "table"),
        ("model.onnx", ("--backdoor-pack=sub/typed.npz",), "typed"),
        ("sub/model.onnx", ("--backdoor-pack=sub/typed.npz",), "typed"),
    ],
)
def test_command_line_before_model_table_before_common_table(project, named_packs, model, typed, name):
    project.add(model)
    project.report(model, *typed)
    assert used_pack(project) == {f"{model}::litmus": name}


def test_what_is_typed_is_relative_to_where_it_is_typed(project, named_packs, monkeypatch):
    project.add()
    monkeypatch.chdir(project.path / "sub")
    project.scan("../model.onnx", "--backdoor-pack=typed.npz", f"--backdoor-report={project.path / 'report.json'}")
    assert used_pack(project) == {"model.onnx::litmus": "typed"}


def test_the_repeating_command_names_the_pack(project, named_packs):
    project.add(kind="bad")
    result = project.scan("model.onnx", "--backdoor-pack=sub/typed.npz")
    again = " ".join(line.strip() for line in result.outlines)
    assert f"--backdoor-pack {project.path / 'sub' / 'typed.npz'}" in again


def test_a_damaged_pack_is_an_error_of_the_check(project):
    project.add()
    project.write("damaged.npz", "damaged")
    project.report("model.onnx", "--backdoor-pack=damaged.npz")
    finding = project.findings()["model.onnx::litmus"]
    assert finding["outcome"] == "error"
    assert "damaged.npz cannot be read" in finding["summary"]


def test_a_model_that_no_pack_fits_is_told_how_to_build_one(project):
    project.write("pyproject.toml", "")
    project.add()
    project.report("model.onnx")
    finding = project.findings()["model.onnx::litmus"]
    assert finding["outcome"] == "not_assessed"
    assert "No detector pack fits images of shape [1, 8, 8] with 4 classes." in finding["summary"]
    assert "python -m reference_attacks zoo build --task FOLDER" in finding["remedy"]
    assert "--backdoor-pack pack.npz" in finding["remedy"]
