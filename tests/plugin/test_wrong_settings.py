from __future__ import annotations

import pytest

COMMON = "pyproject.toml: [[]tool.pytest-backdoor[]]"
MODELS = "pyproject.toml: [[][[]tool.pytest-backdoor.models[]][]]"


def model_table(line):
    return f"[[tool.pytest-backdoor.models]]\npath = 'model.onnx'\n{line}"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("fqr = 0.1", "*'fqr'*Did you mean 'fpr'?"),
        ("chekcs = ['litmus']", "*'chekcs'*Did you mean 'checks'?"),
        ("report = ['a.json']", "*'report'*Did you mean 'reports'?"),
        ("entirely_else = 1", "*'entirely_else'*Known settings:*"),
        ("checks = ['litmsu']", "*checks: *litmsu*installed: *litmus*"),
        ("checks = []", "*checks = *is not valid*"),
        ("fpr = 0", "*fpr = 0 is not valid*"),
        ("fpr = true", "*fpr = True is not valid*"),
        ("timeout = -1", "*timeout = -1 is not valid*0 (no limit)*"),
        ("memory = 1.5", "*memory = 1.5 is not valid*"),
        ("seed = -1", "*seed = -1 is not valid*"),
        ("seed = 9223372036854775808", "*seed = 9223372036854775808 is not valid*"),
        ("device = 'tpu'", "*device = 'tpu' is not valid*"),
        ("device = 'cuda:x'", "*device = 'cuda:x' is not valid*"),
        ("data = ''", "*data = '' is not valid*"),
        ("allow_unverified = 'yes'", "*allow_unverified = 'yes' is not valid*"),
        ("reports = 'a.json'", "*reports must be a list*"),
        ("reports = ['a.yaml']", "*a.yaml*.json*"),
    ],
)
def test_common_table(project, line, says):
    project.configure(line)
    project.add()
    result = project.scan("model.onnx") if "checks" not in line else project.run("--backdoor-scan", "model.onnx")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: *{says}".replace("**", "*")])
    if "a.yaml" not in line:
        result.stderr.fnmatch_lines([f"ERROR: {COMMON}*"])


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("layuot = 'NCHW'", "*'layuot'*Did you mean 'layout'?"),
        ("layout = 'HWC'", "*layout = 'HWC' is not valid*"),
        ("input_range = [255, 0]", "*input_range = *is not valid*"),
        ("input_range = [0]", "*input_range = *is not valid*"),
        ("mean = ['a']", "*mean = *is not valid*"),
        ("std = [0.5, 0]", "*std = *is not valid*"),
        ("classes = [1]", "*classes = *is not valid*"),
        ("factory = 'package.module'", "*factory = *is not valid*"),
        ("source = 3", "*source = 3 is not valid*"),
        ("input_shape = [8, 8]", "*input_shape = *is not valid*"),
        ("input_shape = [1, 8, 0]", "*input_shape = *is not valid*"),
        ("fpr = 1.0", "*fpr = 1.0 is not valid*"),
        ("checks = ['nope']", "*checks: *nope*"),
        ("reports = ['a.json']", "*'reports'*"),
    ],
)
def test_models_table(project, line, says):
    project.configure(models=model_table(line))
    project.add()
    result = project.scan("model.onnx")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {MODELS}{says}"])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[tool]\npytest-backdoor = 3", "*must be a table*"),
        ("[tool.pytest-backdoor]\nmodels = ['a.onnx']", "*write models as *tables*"),
        ("[[tool.pytest-backdoor.models]]\nfile = 'a.onnx'", "*needs a path*"),
    ],
)
def test_misshapen_tables(project, text, says):
    project.write("pyproject.toml", text)
    project.add()
    result = project.scan("model.onnx")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: *pyproject.toml{says}"])


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("--backdoor-checks=litmsu", "*litmsu*installed: *litmus*"),
        ("--backdoor-checks=", "*checks = '' is not valid*"),
        ("--backdoor-fpr=2", "*fpr = 2.0 is not valid*"),
        ("--backdoor-fpr=abc", "*--backdoor-fpr: invalid float value*"),
        ("--backdoor-timeout=nan", "*timeout = nan is not valid*"),
        ("--backdoor-memory=-1", "*memory = -1 is not valid*"),
        ("--backdoor-seed=-1", "*seed = -1 is not valid*"),
        ("--backdoor-device=gpu", "*device = 'gpu' is not valid*"),
        ("--backdoor-data=nowhere", "*--backdoor-data: there is no *nowhere*"),
        ("--backdoor-pack=nowhere.npz", "*--backdoor-pack: there is no *nowhere.npz*"),
        ("--backdoor-lock=nowhere.lock", "*--backdoor-lock: there is no *nowhere.lock*"),
        ("--backdoor-report=report.xyz", "*report.xyz*.json*"),
        ("--backdoor-report=report", "*report *.json*"),
        ("--backdoor-scan=model.onnx", "*ignored explicit argument*"),
        ("--backdoor-nonsense", "*unrecognized arguments: --backdoor-nonsense*"),
    ],
)
def test_command_line(project, option, says):
    project.add()
    result = project.run("--backdoor-scan", "model.onnx", option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([says])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_report_that_cannot_be_written(project):
    project.add()
    (project.path / "folder.json").mkdir()
    result = project.scan("model.onnx", "--backdoor-report=folder.json")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: The report cannot be written: *folder.json*"])


def test_wrong_settings_matter_to_a_report_without_a_scan(project):
    project.configure("fqr = 0.1")
    result = project.run("--backdoor-report=report.json")
    assert result.ret == pytest.ExitCode.USAGE_ERROR


def test_wrong_settings_do_not_matter_to_a_plain_run(project):
    project.configure("fqr = 0.1")
    project.write("test_plain.py", "def test_plain(): pass")
    assert project.run().ret == 0
