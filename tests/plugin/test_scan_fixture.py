from __future__ import annotations

from importlib.util import find_spec
from textwrap import dedent

import pytest

if find_spec("torch"):
    import torch  # noqa: F401  (a run inside this process forgets what it imported, and torch cannot be imported twice)


@pytest.fixture
def run_test(project):
    """A function that runs a test with the given body and the fixture ``backdoor_scan``."""

    def run(body, *arguments):
        source = f"from pathlib import Path\nimport pytest\n\ndef test_own(backdoor_scan, tmp_path):\n{body}"
        project.write("test_own.py", source)
        return project.run(*arguments)

    return lambda body, *arguments: run(
        "".join(f"    {line}\n" for line in dedent(body).strip().splitlines()), *arguments
    )


def test_path(project, run_test):
    project.add()
    project.add("bad.onnx", kind="bad")
    result = run_test(
        """
        report = backdoor_scan("model.onnx", checks=["litmus"], seed=4)
        assert report.passes()
        assert report.verdict == "clean"
        assert report.settings["seed"] == 4
        assert not backdoor_scan(Path("bad.onnx"), checks="litmus").passes()
        """
    )
    result.assert_outcomes(passed=1)


def test_what_it_found_is_reported_and_does_not_fail_by_itself(project, run_test):
    project.add("bad.onnx", kind="bad")
    result = run_test("backdoor_scan('bad.onnx', checks='litmus')", "--backdoor-report=report.json")
    assert result.ret == 0
    assert project.outcomes() == {"bad.onnx": {"litmus": "failed"}}
    result.stdout.fnmatch_lines(["suspicious  bad.onnx  litmus FAILED"])


def test_settings_may_be_paths(project, run_test, made):
    project.configure(pack="small.npz")
    project.add()
    result = run_test(
        f"assert backdoor_scan('model.onnx', checks='litmus', pack=Path({str(made / 'pack.npz')!r})).passes()"
    )
    result.assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ("'model.onnx', chekcs='litmus'", "*'chekcs'*Did you mean 'checks'?"),
        ("'model.onnx', timeout=-1", "*timeout = -1 is not valid*"),
        ("'nowhere.onnx'", "*There is no model file nowhere.onnx*"),
        ("3.5", "*A model is a path or a torch.nn.Module, not float."),
    ],
)
def test_wrong_call(project, run_test, call, says):
    project.add()
    result = run_test(f"backdoor_scan({call})")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([says])
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*_marker.py*")


def test_model_that_is_written_again_is_scanned_again(project, run_test, made):
    bad = (made / "bad.onnx").as_posix()
    project.add()
    result = run_test(
        f"""
        model = Path("model.onnx")
        assert backdoor_scan(model, checks="litmus").passes()
        model.write_bytes(Path({bad!r}).read_bytes())
        assert not backdoor_scan(model, checks="litmus").passes()
        """
    )
    result.assert_outcomes(passed=1)


def test_live_network(project, run_test):
    pytest.importorskip("torch")
    project.configure("input_shape = [1, 8, 8]")
    result = run_test(
        """
        import torch

        network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 4, bias=False))
        weights = torch.zeros(4, 8, 8)
        for number in range(4):
            row, column = divmod(number, 2)
            weights[number, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = 1
        network[1].weight.data = weights.reshape(4, 64)
        report = backdoor_scan(network, checks=["provenance", "litmus"])
        assert report.passes()
        (model,) = report.models
        assert (model.path, model.sha256, model.format) == ("Sequential", None, "module")
        weights[2, -1, -1] = 60
        assert backdoor_scan(network, checks=["litmus"]).verdict == "suspicious"
        """,
        "--backdoor-report=report.json",
    )
    result.assert_outcomes(passed=1)
    assert [model["verdict"] for model in project.read_report()["models"]] == ["clean", "suspicious"]


def test_live_network_without_its_input_shape(project, run_test):
    pytest.importorskip("torch")
    result = run_test(
        """
        import torch

        report = backdoor_scan(torch.nn.Flatten(), checks=["litmus"])
        assert report.verdict == "error"
        assert "input_shape" in report.models[0].findings[0].summary
        """
    )
    result.assert_outcomes(passed=1)
