from __future__ import annotations

from textwrap import dedent

import pytest


@pytest.fixture
def write_test(project):
    """A function that writes a test file, which has pytest imported."""
    return lambda source: project.write("test_own.py", f"import pytest\n{dedent(source)}")


def marked(arguments, body="pass", parameters=""):
    return f"@pytest.mark.backdoor_scan({arguments})\ndef test_own({parameters}): {body}"


def test_clean_model(project, write_test):
    project.add()
    write_test(marked("'model.onnx', checks=['litmus']"))
    result = project.run("--strict-markers", "-W", "error")
    assert result.ret == 0
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*backdoor scan*")


def test_backdoored_model_fails_the_test_instead_of_running_it(project, write_test):
    project.add(kind="bad")
    write_test(marked("'model.onnx', checks='litmus'", "print('the body ran')"))
    result = project.run("-rA", "--backdoor-seed=5")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "model.onnx is suspicious.",
            "Its answers to 3 litmus patterns *a backdoored network. *",
            "  how sure   p = 0.001*",
            "  what next  Do not deploy this model.*",
            "  again      pytest test_own.py::test_own --backdoor-seed 5",
        ]
    )
    for absent in ("the body ran", "*Traceback*", "*_marker.py*"):
        result.stdout.no_fnmatch_line(absent)


def test_fixtures_are_set_up_and_torn_down_around_a_failure(project, write_test):
    project.add(kind="bad")
    write_test(
        """
        @pytest.fixture
        def resource():
            yield
            print("released")

        @pytest.mark.backdoor_scan("model.onnx", checks="litmus")
        def test_own(resource): pass
        """
    )
    result = project.run("-s")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*released*"])


def test_unverified_model(project, write_test):
    project.add(kind="other")
    write_test(marked("'model.onnx', checks='litmus'"))
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["model.onnx is unverified.", "  litmus: model.onnx answers the 4 prototype images *"])
    project.run("--backdoor-allow-unverified").assert_outcomes(passed=1)
    write_test(marked("'model.onnx', checks='litmus', allow_unverified=True"))
    project.run().assert_outcomes(passed=1)


def test_error_is_not_allowed_as_unverified(project, write_test):
    project.add(kind="unopenable")
    write_test(marked("'model.onnx', checks='litmus', allow_unverified=True"))
    result = project.run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["model.onnx could not be scanned.", "model.onnx is in no format that can be audited*"])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("", "*Write the mark with one model: @pytest.mark.backdoor_scan('model.onnx').*"),
        ("'a.onnx', 'b.onnx'", "*Write the mark with one model*"),
        ("model='model.onnx'", "*Write the mark with one model*"),
        ("'model.onnx', chekcs='litmus'", "*'chekcs'*Did you mean 'checks'?*"),
        ("'model.onnx', checks='litmsu'", "*litmsu*"),
        ("'model.onnx', fpr=2", "*fpr = 2 is not valid*"),
        ("'nowhere.onnx'", "*There is no model file nowhere.onnx; check the path.*"),
        ("'hf://nonsense'", "*not of the form hf://owner/repo@revision/file*"),
        ("42", "*A model is a path or a torch.nn.Module, not int.*"),
    ],
)
def test_wrong_mark(project, write_test, arguments, says):
    project.add()
    write_test(marked(arguments, "print('the body ran')"))
    result = project.run("-rA")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([says])
    for absent in ("the body ran", "*Traceback*", "*_marker.py*"):
        result.stdout.no_fnmatch_line(absent)


def test_settings_of_the_mark_come_before_the_command_line(project, write_test):
    project.add(kind="bad")
    write_test(marked("'model.onnx', checks='litmus', fpr=0.0009, allow_unverified=True"))
    project.run("--backdoor-fpr=0.5").assert_outcomes(passed=1)


def test_settings_of_the_models_table_hold(project, write_test):
    project.configure(models="[[tool.pytest-backdoor.models]]\npath = 'm/*.onnx'\nchecks = ['litmus']\nfpr = 0.5\n")
    project.add("m/model.onnx")
    body = "assert backdoor_report.models[0].findings[0].evidence['reference']['significance'] == 0.5"
    write_test(marked("'m/model.onnx'", body, "backdoor_report"))
    project.run().assert_outcomes(passed=1)


def test_paths_are_relative_to_the_root_folder(project, write_test, monkeypatch):
    project.add("m/model.onnx")
    write_test(marked("'m/model.onnx', checks='litmus'"))
    monkeypatch.chdir(project.path / "m")
    project.run("../test_own.py").assert_outcomes(passed=1)


def test_report_fixture(project, write_test):
    project.add()
    write_test(
        marked(
            "'model.onnx', checks='litmus'",
            "assert (backdoor_report.verdict, backdoor_report.models[0].path) == ('clean', 'model.onnx')",
            "backdoor_report",
        )
    )
    project.run().assert_outcomes(passed=1)


def test_report_fixture_without_a_mark(project, write_test):
    write_test("def test_own(backdoor_report): pass")
    result = project.run()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*backdoor_report needs @pytest.mark.backdoor_scan('model.onnx') on the test.*"])


COUNTED = """
import pytest_backdoor.scanning._session as scans
started = []
start = scans.ScanSession.__init__
scans.ScanSession.__init__ = lambda self, *rest, **more: (started.append(rest[1]), start(self, *rest, **more))[1]
def pytest_terminal_summary(terminalreporter): terminalreporter.write_line(f"scans started: {started}")
"""


def test_class_with_parameters_scans_once(project, write_test):
    project.add("a.onnx")
    project.add("b.onnx", kind="bad")
    project.write("conftest.py", COUNTED)
    write_test(
        """
        @pytest.mark.backdoor_scan("a.onnx", checks="litmus")
        class TestOwn:
            @pytest.mark.parametrize("number", range(3))
            def test_parameters(self, number): pass

            def test_report(self, backdoor_report):
                assert [model.path for model in backdoor_report.models] == ["a.onnx"]

            @pytest.mark.backdoor_scan("b.onnx", checks="litmus")
            def test_both(self): pass
        """
    )
    result = project.pytester.runpytest_subprocess("--backdoor-report=report.json", "-v")
    result.assert_outcomes(passed=4, failed=1)
    result.stdout.fnmatch_lines(["scans started: ['a.onnx', 'b.onnx']", "FAILED *::test_both - *"])
    assert list(project.outcomes()) == ["a.onnx", "b.onnx"]


def test_mark_on_parameters(project, write_test):
    project.add("a.onnx")
    project.add("b.onnx", kind="bad")
    write_test(
        """
        def model(name): return pytest.param(name, marks=pytest.mark.backdoor_scan(name, checks="litmus"))

        @pytest.mark.parametrize("name", [model("a.onnx"), model("b.onnx")])
        def test_own(name): pass
        """
    )
    project.run().assert_outcomes(passed=1, failed=1)


@pytest.mark.parametrize("mark", ["skip", "skipif(True, reason='so')", "xfail(run=False)"])
def test_tests_that_do_not_run_scan_nothing(project, write_test, mark):
    project.write("conftest.py", COUNTED)
    write_test(f"@pytest.mark.{mark}\n{marked(repr('nowhere.onnx'))}")
    result = project.pytester.runpytest_subprocess()
    assert result.ret == 0
    result.stdout.fnmatch_lines(["scans started: []"])


def test_expected_failure(project, write_test):
    project.add(kind="bad")
    write_test(f"@pytest.mark.xfail(strict=True)\n{marked('''model.onnx', checks='litmus'''.join(chr(39) * 2))}")
    project.run().assert_outcomes(xfailed=1)


def test_mark_is_documented(project):
    project.run("--markers").stdout.fnmatch_lines(["@pytest.mark.backdoor_scan(model, [*][*]settings): *"])
