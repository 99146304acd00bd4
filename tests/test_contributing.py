"""What CONTRIBUTING.md tells to do works: its check, its attack and its operator, taken from the page itself."""

from __future__ import annotations

import os
import re
import types
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

torch = pytest.importorskip("torch")

from pytest_backdoor.errors import NotAssessableError  # noqa: E402  (after the skip)
from pytest_backdoor.models.graph import _elementwise, _registry, torch_program  # noqa: E402
from reference_attacks import cli  # noqa: E402
from reference_attacks.detectors.matrix.groups import Group, find_models  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def block(name: str) -> str:
    (found,) = re.findall(rf"<!-- {re.escape(name)} -->\n```\w+\n(.*?)```", PAGE, flags=re.DOTALL)
    return found


@pytest.fixture
def installed_check(project, monkeypatch):
    """The page's check, as a package that is installed for processes that the test starts."""
    site = project.path / "site"
    information = site / "blank_check-1.0.dist-info"
    information.mkdir(parents=True)
    (site / "blank_check.py").write_text(block("check: blank_check.py"), encoding="utf-8")
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: blank-check\nVersion: 1.0\n", encoding="utf-8")
    (entry,) = re.findall(r'^(\S+) = "(\S+)"', block("check: entry point"), flags=re.MULTILINE)
    (information / "entry_points.txt").write_text(
        f"[pytest_backdoor.checks]\n{entry[0]} = {entry[1]}\n", encoding="utf-8"
    )
    # After what pytest itself runs with, which may be a copy of the repository that is not installed.
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{site}")
    return entry[0]


@pytest.mark.parametrize(
    ("kind", "outcome", "verdict"), [("clean", "passed", "unverified"), ("bad", "failed", "suspicious")]
)
def test_the_check(project, installed_check, kind, outcome, verdict):
    project.add(kind=kind)
    checks = f"--backdoor-checks={installed_check}"
    report = project.report("model.onnx", checks, scan=project.scan_apart)
    (model,) = report["models"]
    assert model["verdict"] == verdict
    assert [(finding["check"], finding["outcome"]) for finding in model["findings"]] == [(installed_check, outcome)]


def test_the_attack(project, monkeypatch):
    module = types.ModuleType("planted")
    exec(block("attack: reference_attacks/planted/command.py"), module.__dict__)
    monkeypatch.setattr(cli, "SUBCOMMANDS", (*cli.SUBCOMMANDS, module))
    source, out = project.add("clean.onnx"), project.path / "out"
    assert cli.main(["planted", str(source), "--target", "2", "--out", str(out)]) == 0
    (model,) = find_models(Group(name="planted", title="Planted", folders=("out",)), project.path)
    assert (model.row.attack, model.row.target, model.row.works) == ("planted pixel", 2, True)
    assert project.scan(out / "planted.onnx", "--backdoor-checks=litmus").ret == pytest.ExitCode.TESTS_FAILED
    assert project.scan(source, "--backdoor-checks=litmus").ret == pytest.ExitCode.OK


def shrinking_model(**attributes: float) -> onnx.ModelProto:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3, 4, 4]) for name in ("image", "out")]
    nodes = [helper.make_node("Shrink", ["image"], ["out"], **attributes)]
    graph = helper.make_graph(nodes, "shrink", values[:1], values[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def test_the_operator(monkeypatch):
    model = shrinking_model(lambd=0.4, bias=0.1)
    with pytest.raises(NotAssessableError, match="Shrink"):
        torch_program(model)
    # The table is filled by importing; what the page adds is taken out again.
    for name, meaning in _registry.OPERATORS.items():
        monkeypatch.setitem(_registry.OPERATORS, name, meaning)
    monkeypatch.setitem(_registry.OPERATORS, "Shrink", None)
    exec(block("operator"), dict(vars(_elementwise)))
    images = np.random.default_rng(0).uniform(-1, 1, (5, 3, 4, 4)).astype(np.float32)
    (wanted,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"image": images})
    tensor = torch.tensor(images, requires_grad=True)
    found = torch_program(model)(tensor)
    np.testing.assert_allclose(found.detach().numpy(), wanted, atol=1e-6)
    found.sum().backward()
    assert set(tensor.grad.unique().tolist()) == {0, 1}


def test_what_the_page_names_exists():
    for name in re.findall(r"`((?:reference_attacks|pytest_backdoor|tests|docs|action|\.ci)/[\w./-]+)`", PAGE):
        assert (ROOT / name).exists() or "planted" in name, name
