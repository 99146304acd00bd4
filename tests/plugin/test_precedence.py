from __future__ import annotations

import pytest

DEFAULTS = {
    "fpr": 0.01,
    "allow_unverified": False,
    "timeout": 600.0,
    "memory": 8192,
    "seed": 0,
    "device": "cpu",
    "data": None,
    "lock": None,
    "checks": None,
}
COMMON = """
checks = ["echo"]
fpr = 0.02
allow_unverified = false
timeout = 20
memory = 2001
seed = 2
device = "mps"
data = "common.npz"
lock = "common.lock"
reports = ["common.json"]
"""
TABLE = """
[[tool.pytest-backdoor.models]]
path = "models/a.onnx"
checks = ["echo", "provenance"]
fpr = 0.03
allow_unverified = true
timeout = 30
memory = 3001
seed = 3
device = "cuda:1"
data = "table.npz"
lock = "table.lock"
layout = "NHWC"
input_range = [-1, 1]
mean = [0.5]
std = 0.25
classes = ["a", "b", "c", "d"]
factory = "package.module:build"
source = "https://example.org/a"
input_shape = [1, 8, 8]
"""
TYPED = {"fpr": 0.04, "timeout": 40.0, "memory": 4001, "seed": 4, "device": "cuda"}
FROM_COMMON = {"fpr": 0.02, "timeout": 20.0, "memory": 2001, "seed": 2, "device": "mps"}
FROM_TABLE = {"fpr": 0.03, "timeout": 30.0, "memory": 3001, "seed": 3, "device": "cuda:1"}


@pytest.fixture
def echoing(project, install_checks):
    """Two models, whose settings a check of its own puts into the report; gives a function that reads them."""
    install_checks(echo="evidence = context.settings.to_json()")
    for name in ("a", "b"):
        project.add(f"models/{name}.onnx")

    def used(*arguments, report="report.json"):
        project.scan_apart("models", *arguments, f"--backdoor-report={report}")
        findings = project.findings(report)
        return tuple(findings[f"models/{name}.onnx::echo"]["evidence"] for name in ("a", "b"))

    return used


def test_defaults(echoing, project):
    for used in echoing():
        assert {name: used[name] for name in DEFAULTS} == DEFAULTS
    assert DEFAULTS.items() <= project.read_report()["settings"].items()


def test_model_table_before_common_table_before_default(echoing, project):
    project.configure(COMMON, TABLE)
    a, b = echoing()
    assert a.items() >= (FROM_TABLE | {"allow_unverified": True, "data": "table.npz", "lock": "table.lock"}).items()
    assert b.items() >= (FROM_COMMON | {"allow_unverified": False, "data": "common.npz"}).items()
    assert b["lock"] == "common.lock"
    assert (a["checks"], b["checks"]) == (["echo", "provenance"], ["echo"])
    assert a["layout"] == "NHWC"
    assert (a["input_range"], a["mean"], a["std"]) == ([-1, 1], [0.5], [0.25])
    assert a["classes"] == ["a", "b", "c", "d"]
    assert (a["factory"], a["source"]) == ("package.module:build", "https://example.org/a")
    assert a["input_shape"] == [1, 8, 8]
    assert b["layout"] is b["mean"] is b["classes"] is b["factory"] is b["source"] is b["input_shape"] is None


def test_command_line_before_everything(echoing, project):
    project.configure(COMMON, TABLE)
    project.write("typed.npz", "")
    project.write("typed.lock", "")
    typed = [f"--backdoor-{name}={value}" for name, value in TYPED.items()]
    paths = ["--backdoor-data=typed.npz", "--backdoor-lock=typed.lock"]
    for used in echoing(*typed, *paths, "--backdoor-checks=echo", "--backdoor-allow-unverified"):
        expected = TYPED | {"allow_unverified": True, "checks": ["echo"]}
        assert used.items() >= expected.items()
        assert used["data"] == str(project.path / "typed.npz")
        assert used["lock"] == str(project.path / "typed.lock")
    assert not (project.path / "common.json").exists()


def test_reports_key(project):
    project.configure('checks = ["litmus"]\nreports = ["out/one.json", "two.json"]')
    project.add()
    project.run("--backdoor-scan", "model.onnx")
    assert project.outcomes("out/one.json") == project.outcomes("two.json") == {"model.onnx": {"litmus": "passed"}}


def test_lock_beside_pyproject_is_found_and_one_that_is_typed_comes_first(project):
    project.add()
    project.write("models.lock", "this is no lock file")
    project.write("other.lock", "neither is this")
    project.scan("model.onnx", "--backdoor-report=found.json")
    project.scan("model.onnx", "--backdoor-lock=other.lock", "--backdoor-report=typed.json")
    assert "models.lock" in project.findings("found.json")["model.onnx::provenance"]["summary"]
    assert "other.lock" in project.findings("typed.json")["model.onnx::provenance"]["summary"]


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [
        ("models/deep/m.onnx", True),
        ("./models/deep/m.onnx", True),
        ("models/../models/deep/*.onnx", True),
        ("models/*/m.onnx", True),
        ("models/**/*.onnx", True),
        ("**/*.onnx", True),
        ("models/deep/**/*.onnx", True),
        ("models/deep", True),
        ("models", True),
        ("models/*.onnx", False),
        ("*.onnx", False),
        ("deep/m.onnx", False),
        ("models/dee", False),
        ("models/deep/m.onnx/**/x", False),
    ],
)
def test_which_models_a_table_is_for(project, pattern, matches):
    project.configure(models=f"[[tool.pytest-backdoor.models]]\npath = '{pattern}'\nchecks = ['provenance']")
    project.add("models/deep/m.onnx")
    result = project.run("--backdoor-scan", "models/deep/m.onnx", "--collect-only", "-q")
    assert (result.outlines[:2] == ["models/deep/m.onnx::provenance", ""]) == matches


def test_later_tables_come_first(project):
    table = "[[tool.pytest-backdoor.models]]\npath = '{}'\nfpr = {}\n"
    project.configure(models=table.format("*.onnx", 0.2) + table.format("model.onnx", 0.4))
    project.add()
    assert project.report("model.onnx")["models"][0]["findings"][1]["evidence"]["reference"]["significance"] == 0.4


def test_pack_of_a_models_table_is_relative_to_pyproject(project, made, monkeypatch):
    project.write("packs/.keep", "")
    (project.path / "packs/own.npz").write_bytes((made / "pack.npz").read_bytes())
    project.write(
        "pyproject.toml", "[[tool.pytest-backdoor.models]]\npath = 'sub/model.onnx'\npack = 'packs/own.npz'\n"
    )
    project.add("sub/model.onnx")
    monkeypatch.chdir(project.path / "sub")
    result = project.scan("model.onnx")
    assert result.ret == 0


def test_settings_are_read_beside_a_pytest_toml(project):
    project.configure('checks = ["provenance"]')
    project.write("pytest.toml", "[pytest]\n")
    project.add()
    result = project.run("--backdoor-scan", "model.onnx", "--collect-only", "-q")
    assert result.outlines[:2] == ["model.onnx::provenance", ""]
