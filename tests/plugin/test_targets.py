from __future__ import annotations

import pytest

USAGE_ERROR, NOTHING_RAN = pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.NO_TESTS_COLLECTED
LISTED = "[[tool.pytest-backdoor.models]]\npath = '{}'\n"


def collected(project, *arguments):
    """The node ids that a scan of ``arguments`` collects; no model is opened."""
    result = project.run("--backdoor-scan", "--backdoor-checks=litmus", "--collect-only", "-q", *arguments)
    return [line for line in result.outlines if "::" in line]


def test_flag_without_models(project):
    result = project.scan()
    assert result.ret == USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --backdoor-scan has nothing to scan*pytest --backdoor-scan model.onnx*"])


@pytest.mark.parametrize("distributed", [(), ("-n", "2")], ids=["alone", "xdist"])
@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("modle.onnx", "*no file or folder modle.onnx*Check the path*"),
        ("modle.onnx::litmus", "*no file or folder modle.onnx*"),
        ("models/*.onnx", "*No file matches models/*"),
        ("hf://owner", "*hf://owner is not of the form hf://owner/repo@revision/file*"),
    ],
)
def test_nothing_there(project, typed, says, distributed):
    project.add()
    result = project.scan("model.onnx", typed, *distributed)
    assert result.ret == USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {says}"])


def test_listed_glob_without_files(project):
    project.configure(models=LISTED.format("models/*.onnx"))
    result = project.scan()
    assert result.ret == USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: pyproject.toml: *path = 'models/[*].onnx' matches no file."])


def test_folder_without_models(project):
    project.write("folder/test_own.py", "def test_own(): pass")
    result = project.scan("folder")
    assert result.ret == NOTHING_RAN
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["No model was scanned: no check ran."])


def test_file_of_another_kind(project):
    project.write("model.bin", "weights")
    assert project.scan("model.bin").ret == USAGE_ERROR


def test_folder_is_scanned_with_what_lies_below(project):
    for name in ("models/a.onnx", "models/deep/er/b.ONNX", "models/c.pt", "models/d.pth", "models/e.safetensors"):
        project.add(name)
    project.write("models/notes.txt", "")
    project.add("elsewhere/f.onnx")
    assert sorted(collected(project, "models")) == [
        "models/a.onnx::litmus",
        "models/c.pt::litmus",
        "models/d.pth::litmus",
        "models/deep/er/b.ONNX::litmus",
        "models/e.safetensors::litmus",
    ]


def test_glob_that_no_shell_expanded(project):
    for name in ("b", "a", "deep/c"):
        project.add(f"models/{name}.onnx")
    assert collected(project, "models/*.onnx") == ["models/a.onnx::litmus", "models/b.onnx::litmus"]
    assert len(collected(project, "models/**/*.onnx")) == 3


def test_glob_with_a_check(project):
    project.add("models/a.onnx")
    project.add("models/b.onnx")
    result = project.run("--backdoor-scan", "models/*.onnx::litmus", "--collect-only", "-q")
    assert result.outlines[:3] == ["models/a.onnx::litmus", "models/b.onnx::litmus", ""]


def test_listed_models_beside_the_tests_of_the_repository(project):
    project.configure(models=LISTED.format("models/*.onnx"), pytest_options="testpaths = ['tests']")
    project.add("models/a.onnx")
    project.add("models/b.onnx")
    project.add("tests/fixture.onnx", kind="unopenable")
    project.write("tests/test_own.py", "def test_own(): pass")
    assert collected(project) == ["tests/test_own.py::test_own", "models/a.onnx::litmus", "models/b.onnx::litmus"]
    result = project.scan()
    assert result.ret == 0
    result.assert_outcomes(passed=3, skipped=2)


def test_typed_paths_replace_the_listed_ones(project):
    project.configure(models=LISTED.format("listed.onnx"))
    project.add("listed.onnx")
    project.add("typed.onnx")
    assert collected(project, "typed.onnx") == ["typed.onnx::litmus"]


def test_listed_folder_from_a_folder_below(project, monkeypatch):
    project.configure(models=LISTED.format("models"))
    project.add("models/a.onnx")
    project.write("below/notes.txt", "")
    monkeypatch.chdir(project.path / "below")
    assert collected(project) == ["models/a.onnx::litmus"]


def test_models_are_no_tests_of_a_plain_run(project):
    project.configure(models=LISTED.format("model.onnx"))
    project.add()
    project.write("test_own.py", "def test_own(): pass")
    result = project.run()
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*backdoor scan*")


def test_own_tests_that_fail_fail_the_run(project):
    project.add()
    project.write("test_own.py", "def test_own(): assert False")
    result = project.scan("model.onnx", "test_own.py")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=1, failed=1, skipped=1)


@pytest.mark.parametrize(
    "typed",
    [
        ("model.onnx", "model.onnx"),
        ("model.onnx", "./model.onnx"),
        ("model.onnx", "model.onnx::litmus"),
        (".", "model.onnx"),
        ("model.*", "*.onnx"),
    ],
)
def test_a_model_named_twice_is_scanned_once(project, typed):
    project.add()
    assert collected(project, *typed) == ["model.onnx::litmus"]


@pytest.mark.parametrize("name", ["my model.onnx", "modèle-猫.onnx", "it's.onnx", "a,b;c.onnx", "-dash.onnx"])
def test_unusual_names(project, name):
    project.add(name, kind="bad")
    result = project.scan(f"./{name}", "--backdoor-report=report.json")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert project.outcomes() == {name: {"provenance": "not_assessed", "litmus": "failed"}}
    result.stdout.fnmatch_lines([f"suspicious  {name}  *", f"FAILED {name}::litmus - *"])


@pytest.mark.parametrize("typed", ["model[1].onnx", "model*.onnx", "folder*"])
def test_bracket_in_a_name(project, typed):
    project.add("model[1].onnx")
    project.add("folder[1]/model.onnx")
    result = project.scan(typed)
    assert result.ret == USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: pytest cannot collect *1[]]*holds a [[]; rename it or scan its folder."])


def test_bracket_in_a_name_below_a_typed_folder(project):
    project.add("models/model[1].onnx")
    assert project.scan("models", "--backdoor-report=report.json").ret == 0
    assert list(project.outcomes()) == ["models/model[1].onnx"]


@pytest.fixture
def outside(project, tmp_path_factory, made):
    """Two models of the same name in folders outside of pytest's root folder."""
    folder = tmp_path_factory.mktemp("outside")
    for name, kind in (("one", "clean"), ("two", "bad")):
        (folder / name).mkdir()
        (folder / name / "model.onnx").write_bytes((made / f"{kind}.onnx").read_bytes())
    return folder


def test_models_outside_of_the_root_folder(project, outside):
    one, two = outside / "one/model.onnx", outside / "two/model.onnx"
    result = project.scan("-c", "pyproject.toml", one, two, "--backdoor-report=report.json")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert {name: found["litmus"] for name, found in project.outcomes().items()} == {
        one.as_posix(): "passed",
        two.as_posix(): "failed",
    }
    result.stdout.fnmatch_lines([f"  again *pytest -c pyproject.toml --backdoor-scan {two.as_posix()}::litmus *"])


def test_table_for_a_model_outside_of_the_root_folder(project, outside):
    project.configure(models=LISTED.format((outside / "*/model.onnx").as_posix()) + "checks = ['provenance']")
    result = project.run("--backdoor-scan", "--collect-only", "-q")
    assert [line for line in result.outlines if "::" in line] == [
        f"{(outside / name / 'model.onnx').as_posix()}::provenance" for name in ("one", "two")
    ]


def test_repeating_command_in_a_folder_below(project, monkeypatch):
    project.add("below/model.onnx", kind="bad")
    monkeypatch.chdir(project.path / "below")
    result = project.scan("model.onnx")
    result.stdout.fnmatch_lines(["  model *below/model.onnx", "  again *pytest --backdoor-scan model.onnx::litmus *"])
