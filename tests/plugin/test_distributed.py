from __future__ import annotations

import pytest

pytest.importorskip("xdist")

MODELS = ("b.onnx", "a.onnx", "c.onnx")


@pytest.mark.parametrize("how", ["load", "loadfile"])
def test_same_report_as_in_one_process(project, how):
    for name, kind in zip(MODELS, ("bad", "clean", "other"), strict=True):
        project.add(name, kind=kind)
    alone = project.scan(*MODELS, "--backdoor-report=alone.json")
    shared = project.scan(*MODELS, "-n2", f"--dist={how}", "--backdoor-report=shared.json")
    assert shared.ret == alone.ret == pytest.ExitCode.TESTS_FAILED
    assert shared.parseoutcomes() == alone.parseoutcomes()
    assert project.read_report("shared.json", timeless=True) == project.read_report("alone.json", timeless=True)
    shared.stdout.fnmatch_lines(["  again *pytest --backdoor-scan b.onnx::litmus*"])


def test_clean_models_pass(project):
    project.add()
    assert project.scan("model.onnx", "-n2").ret == 0


def test_unverified_model_fails(project):
    project.add(kind="other")
    result = project.scan("model.onnx", "-n2")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*--backdoor-allow-unverified*"])


def test_listed_models(project):
    project.configure(
        models="[[tool.pytest-backdoor.models]]\npath = 'models/*.onnx'", pytest_options="testpaths=['t']"
    )
    project.add("models/a.onnx")
    project.write("t/test_own.py", "def test_own(): pass")
    result = project.scan("-n2", "--backdoor-report=report.json")
    assert result.ret == 0
    assert project.outcomes() == {"models/a.onnx": {"provenance": "not_assessed", "litmus": "passed"}}


def test_models_that_tests_scan_are_reported_once(project):
    project.add()
    project.write(
        "test_marked.py",
        """
        import pytest

        @pytest.mark.parametrize("number", range(4))
        @pytest.mark.backdoor_scan("model.onnx", checks="litmus")
        def test_marked(number): pass
        """.replace("\n        ", "\n"),
    )
    result = project.run("-n2", "--backdoor-report=report.json")
    result.assert_outcomes(passed=4)
    assert [model["path"] for model in project.read_report()["models"]] == ["model.onnx"]


def test_limits(project, install_checks):
    install_checks(hang="time.sleep(60)")
    project.add("a.onnx")
    project.add("b.onnx")
    arguments = ("a.onnx", "b.onnx", "--backdoor-checks=hang", "--backdoor-timeout=1", "-n2")
    result = project.scan_apart(*arguments, "--backdoor-report=report.json")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert project.outcomes() == {"a.onnx": {"hang": "error"}, "b.onnx": {"hang": "error"}}


def test_worker_that_dies(project):
    project.add("a.onnx")
    project.add("b.onnx")
    project.write(
        "conftest.py",
        """
        import os

        def pytest_runtest_call(item):
            if item.nodeid == "a.onnx::litmus":
                os._exit(3)
        """.replace("\n        ", "\n"),
    )
    result = project.scan("a.onnx", "b.onnx", "-n1", "--backdoor-report=report.json")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert project.outcomes()["a.onnx"]["litmus"] == "error"
    assert project.outcomes()["b.onnx"]["litmus"] == "passed"
