"""Failed checks that the settings accept: of one file, with a reason, up to a day."""

from __future__ import annotations

import hashlib
import json

import pytest

FAILED, USAGE_ERROR = pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.USAGE_ERROR
LITMUS = "--backdoor-checks=litmus"
REASON = "looked at it: a false alarm"


@pytest.fixture
def accept(project):
    """A function that accepts that model.onnx fails a check; what is changed comes as TOML."""

    def write(**changed):
        digest = hashlib.sha256((project.path / "model.onnx").read_bytes()).hexdigest()
        values = {"checks": '["litmus"]', "sha256": f'"{digest}"', "reason": f'"{REASON}"', "until": "2099-12-31"}
        entry = ", ".join(f"{name} = {value}" for name, value in (values | changed).items() if value is not None)
        project.configure(models=f"[[tool.pytest-backdoor.models]]\npath = 'model.onnx'\naccept = [{{ {entry} }}]")

    project.add(kind="bad")
    return write


def test_an_accepted_failure_leaves_the_gate_open(project, accept):
    accept()
    result = project.scan("model.onnx", LITMUS, "-rx")
    result.assert_outcomes(xfailed=1)
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "suspicious *model.onnx *litmus FAILED (accepted)",
            f"*litmus: accepted until 2099-12-31: {REASON}",
            f"XFAIL *litmus*Accepted until 2099-12-31: {REASON}",
        ]
    )


def test_every_report_tells_it(project, accept):
    accept()
    files = [f"report{suffix}" for suffix in (".json", ".html", ".md", ".sarif", ".xml")]
    options = [f"--backdoor-report={name}" for name in files[:-1]]
    project.scan("model.onnx", LITMUS, *options, "--junit-xml=report.xml")
    texts = {name: (project.path / name).read_text(encoding="utf-8") for name in files}
    for text in texts.values():
        assert f"until 2099-12-31: {REASON}" in text
    model = json.loads(texts["report.json"])["models"][0]
    assert model["verdict"] == "suspicious"
    assert [finding["outcome"] for finding in model["findings"]] == ["failed"]
    assert json.loads(texts["report.sarif"])["runs"][0]["results"] == []
    assert "suspicious, accepted" in texts["report.html"]
    assert "How to accept it" not in texts["report.html"]
    assert "suspicious, accepted" in texts["report.md"]


def test_several_checks_at_once(project, accept):
    accept(checks='"margin, litmus"')
    assert project.scan("model.onnx", LITMUS).ret == 0


def test_a_quoted_day_and_a_list_of_hashes(project, accept):
    digest = hashlib.sha256((project.path / "model.onnx").read_bytes()).hexdigest()
    accept(until='"2099-12-31"', sha256=f'["{digest.upper()}"]')
    assert project.scan("model.onnx", LITMUS).ret == 0


def test_after_its_last_day_it_fails_again(project, accept):
    accept(until="2020-02-29")
    result = project.scan("model.onnx", LITMUS)
    assert result.ret == FAILED
    result.stdout.fnmatch_lines(["*accepted litmus until 2020-02-29 and no longer: review it.*"])


def test_another_file_is_not_accepted(project, accept):
    accept(sha256=f'"{"0" * 64}"')
    result = project.scan("model.onnx", LITMUS)
    assert result.ret == FAILED
    text = " ".join(result.stdout.str().split())
    digest = hashlib.sha256((project.path / "model.onnx").read_bytes()).hexdigest()
    assert f"The settings accept litmus of another file; this is {digest}." in text


def test_more_files_than_there_are_is_another_model(project, accept):
    digest = hashlib.sha256((project.path / "model.onnx").read_bytes()).hexdigest()
    accept(sha256=f'["{digest}", "{digest}"]')
    assert project.scan("model.onnx", LITMUS).ret == FAILED


def test_another_check_is_not_accepted(project, accept):
    accept(checks='["margin"]')
    assert project.scan("model.onnx", LITMUS).ret == FAILED


def test_an_error_is_not_accepted(project, accept):
    project.add(kind="unopenable")
    accept()
    result = project.scan("model.onnx", LITMUS)
    assert result.ret == FAILED
    result.assert_outcomes(failed=1)


def test_a_model_that_passes_needs_none(project, accept):
    project.add(kind="clean")
    accept()
    result = project.scan("model.onnx", LITMUS)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["model.onnx passes litmus: remove what accepts its failure."])


def test_who_runs_expected_failures_sees_it_fail(project, accept):
    accept()
    result = project.scan("model.onnx", LITMUS, "--runxfail")
    result.assert_outcomes(failed=1)
    assert result.ret == FAILED


def test_marked_tests_and_the_fixture_pass(project, accept):
    accept()
    project.write(
        "test_it.py",
        "import pytest\n"
        "@pytest.mark.backdoor_scan('model.onnx', checks='litmus')\n"
        "def test_mark(backdoor_report): assert backdoor_report.verdict == 'suspicious'\n"
        "def test_fixture(backdoor_scan): assert backdoor_scan('model.onnx', checks='litmus').passes()\n",
    )
    project.run("test_it.py").assert_outcomes(passed=2)


def test_the_report_tells_what_to_write(project, accept):
    project.configure()
    project.scan("model.onnx", LITMUS, "--backdoor-report=report.md")
    text = (project.path / "report.md").read_text(encoding="utf-8")
    block = text[text.index("[[tool.pytest-backdoor.models]]") :].split("```")[0]
    project.configure(models=block.replace("YYYY-MM-DD", "2099-12-31").replace("WHY", REASON))
    assert project.scan("model.onnx", LITMUS).ret == 0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"until": '"31.12.2099"'}, "*until = '31.12.2099' is no day; write it as 2027-01-31.*"),
        ({"until": "2099-12-31T10:00:00"}, "*is no day*"),
        ({"until": None}, "*'until' is missing; each entry has checks, sha256, reason, until.*"),
        ({"reason": '" "'}, "*give reason as one line of text.*"),
        ({"sha256": '"abc"'}, "*'abc' is no SHA-256*"),
        ({"sha256": "[]"}, "*give sha256 as the report tells it*"),
        ({"checks": '["litmus", "provenance"]'}, "*allowed in the lock file: pytest-backdoor lock add --allow.*"),
        ({"checks": '["litmuss"]'}, "*There is no check named litmuss*"),
        ({"checks": "[]"}, "*give checks as a list of names.*"),
        ({"by": '"me"'}, "*'by' is not known*"),
    ],
)
def test_wrong_entries(project, accept, changed, message):
    accept(**changed)
    result = project.scan("model.onnx", LITMUS)
    assert result.ret == USAGE_ERROR
    result.stderr.fnmatch_lines([message])


def test_it_must_be_a_list(project):
    project.configure("accept = 'litmus'")
    project.add()
    result = project.scan("model.onnx")
    assert result.ret == USAGE_ERROR
    result.stderr.fnmatch_lines(["*give a list of tables with checks, sha256, reason, until.*"])
