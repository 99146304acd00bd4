"""The GitHub Action, run step by step with the environment that Actions gives."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from actions_runner import PUSH, REPOSITORY, ROOT, ActionRunner, action_module, read_outputs
from packaging.requirements import Requirement

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the small runner needs bash and executable scripts")
UPLOAD, SARIF = "actions/upload-artifact", "github/codeql-action/upload-sarif"
workflow, inputs, install, scan = map(action_module, ("workflow", "inputs", "install", "scan"))
LAST = "Fail unless the models pass"


def pull_request(head):
    return {"pull_request": {"head": {"repo": head and {"full_name": head}}}}


@pytest.fixture
def act(project, tmp_path):
    """A function that runs the action in the project, with the plugin that is already installed."""
    temporary = tmp_path / "runner temp"
    temporary.mkdir()

    def run(models, event=None, environment=None, **inputs):
        runner = ActionRunner(workspace=project.path, temporary=temporary, environment=environment or {})
        given = {"checks": "provenance, litmus", "install": "false", "models": models}
        given |= {name.replace("_", "-"): value for name, value in inputs.items()}
        return runner.run(given, **({} if event is None else {"event": event}))

    return run


def test_clean_model_is_green(project, act):
    project.add()
    ran = act("model.onnx", upload_sarif="true", category="digits")
    assert ran.success, ran.log
    assert {name: ran.outputs[name] for name in ("verdict", "findings", "exit-code")} == {
        "verdict": "clean",
        "findings": "0",
        "exit-code": "0",
    }
    report = json.loads(Path(ran.outputs["json"]).read_text(encoding="utf-8"))
    assert [model["path"] for model in report["models"]] == ["model.onnx"]
    assert json.loads(Path(ran.outputs["sarif"]).read_text(encoding="utf-8"))["version"] == "2.1.0"
    assert Path(ran.outputs["html"]).read_text(encoding="utf-8").lstrip().lower().startswith("<!doctype html>")
    assert "model.onnx" in ran.summary
    assert ran.used[SARIF] == {"sarif_file": ran.outputs["sarif"], "category": "digits"}
    assert ran.used[UPLOAD]["name"].startswith("backdoor-report-scan-")


def test_backdoored_model_is_red_after_its_reports_are_out(project, act):
    project.add(kind="bad")
    project.add("good.onnx")
    ran = act("model.onnx\ngood.onnx", upload_sarif="true")
    assert not ran.success
    assert [name for name, outcome in ran.steps.items() if outcome == "failure"] == [LAST]
    assert list(ran.steps)[-1] == LAST
    assert (ran.outputs["verdict"], ran.outputs["findings"], ran.outputs["exit-code"]) == ("suspicious", "1", "1")
    assert {UPLOAD, SARIF} <= set(ran.used)
    assert "::error title=Backdoor scan%3A suspicious::model.onnx:" in ran.log
    assert "model.onnx" in ran.summary


def test_what_the_settings_accept_is_told_and_green(project, act):
    digest = hashlib.sha256(project.add(kind="bad").read_bytes()).hexdigest()
    project.configure(
        models="[[tool.pytest-backdoor.models]]\npath = 'model.onnx'\n[[tool.pytest-backdoor.models.accept]]\n"
        f"checks = ['litmus']\nuntil = 2099-12-31\nreason = 'a lesson'\nsha256 = '{digest}'"
    )
    ran = act("model.onnx")
    assert ran.success, ran.log
    assert (ran.outputs["verdict"], ran.outputs["findings"], ran.outputs["exit-code"]) == ("suspicious", "0", "0")
    assert "::notice title=Backdoor scan%3A suspicious::model.onnx:" in ran.log
    assert "::error" not in ran.log
    assert "The gate is open: suspicious, which the settings accept." in ran.log
    assert "until 2099-12-31" in ran.summary


@pytest.mark.parametrize(
    ("fail_on", "success"), [("unverified", False), ("suspicious", True), ("never", True)], ids=lambda value: str(value)
)
def test_unverified_model_and_what_it_fails_on(project, act, fail_on, success):
    project.add(kind="other")
    ran = act("model.onnx", fail_on=fail_on, checks="provenance\nlitmus", lock=lock_of(project, "model.onnx"))
    assert ran.outputs["verdict"] == "unverified", ran.log
    assert ran.success is success
    assert "scan%3A unverified::model.onnx: nothing that looks at its behaviour" in ran.log


def lock_of(project, *names):
    from pytest_backdoor.cli import main

    assert (
        main(
            [
                "lock",
                "add",
                "--allow-ci",
                "--lock",
                str(project.path / "my.lock"),
                *(str(project.path / n) for n in names),
            ]
        )
        == 0
    )
    return "my.lock"


def test_never_fails_for_what_was_found(project, act):
    project.add(kind="bad")
    ran = act("model.onnx", fail_on="never")
    assert ran.success
    assert (ran.outputs["verdict"], ran.outputs["exit-code"]) == ("suspicious", "1")
    assert "::warning title=Backdoor scan%3A suspicious" in ran.log


def test_never_is_no_excuse_for_a_model_that_cannot_be_opened(project, act):
    project.add(kind="unopenable")
    ran = act("model.onnx", fail_on="never", upload_sarif="true", checks="litmus")
    assert not ran.success
    assert ran.outputs["verdict"] == "error"
    assert SARIF in ran.used  # it says that the model could not be scanned


@pytest.mark.parametrize("fail_on", ["unverified", "never"])
def test_model_that_is_not_there(act, fail_on):
    ran = act("missing.onnx", fail_on=fail_on, upload_sarif="true")
    assert not ran.success
    assert (ran.outputs["verdict"], ran.outputs["exit-code"], ran.outputs["sarif"]) == ("error", "4", "")
    assert not {UPLOAD, SARIF} & set(ran.used)
    assert "There is no file or folder missing.onnx" in ran.log
    assert "Nothing was scanned" in ran.summary


@pytest.mark.parametrize(
    ("inputs", "named"),
    [
        ({"models": " \n\n"}, "models is empty"),
        ({"fail_on": "sometimes"}, "fail-on is 'sometimes'"),
        ({"install": "maybe"}, "install is 'maybe'"),
        ({"time_budget": "soon"}, "time-budget is 'soon'"),
        ({"html_file": "report.pdf"}, "html-file is 'report.pdf'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_input_is_named_and_nothing_runs(act, inputs, named):
    ran = act(**{"models": "model.onnx", **inputs})
    assert not ran.success
    assert (ran.outputs["verdict"], ran.outputs["exit-code"]) == ("error", "4")
    assert named in ran.log
    assert set(ran.steps.values()) == {"skipped", "failure"}


def test_nothing_that_an_input_holds_is_run(project, act):
    name = "it's $(touch hit) `touch hit` a;touch hit & #1.onnx"
    project.add(f"odd models/{name}")
    project.add("-x.onnx")
    ran = act(
        f"  odd models/{name}  \n\n-x.onnx\n",
        json_file="out put/$(touch hit) report.json",
        report_name="$(touch hit)",
        extra_args="-k\nnot odd_name and litmus\n",
    )
    assert (ran.outputs["verdict"], ran.outputs["exit-code"]) == ("clean", "0"), ran.log
    assert ran.success
    assert not list(project.path.rglob("hit"))
    report = json.loads((project.path / "out put/$(touch hit) report.json").read_text(encoding="utf-8"))
    assert sorted(model["path"] for model in report["models"]) == ["-x.onnx", f"odd models/{name}"]


def test_text_of_the_scan_is_no_workflow_command(project, act):
    project.add()
    project.write("conftest.py", "print('::error::from the project')")
    ran = act("model.onnx", extra_args="-s")
    before, _, after = ran.log.partition("::stop-commands::")
    token, _, after = after.partition("\n")
    assert "from the project" in after.partition(f"::{token}::")[0]
    assert "from the project" not in before


@pytest.mark.parametrize(
    ("event", "trusted"),
    [
        (PUSH, True),
        (pull_request(REPOSITORY), True),
        (pull_request("somebody/project"), False),
        (pull_request(None), False),  # the fork is gone
        ({"workflow_run": {"head_repository": {"full_name": "somebody/project"}}}, False),
        ({"pull_request": "nonsense"}, False),
        ([], False),
    ],
    ids=["push", "own", "fork", "deleted fork", "run of a fork", "unreadable", "no event"],
)
def test_whose_code_it_is(tmp_path, event, trusted):
    (tmp_path / "event.json").write_text(json.dumps(event), encoding="utf-8")
    environment = {"GITHUB_REPOSITORY": REPOSITORY, "GITHUB_EVENT_PATH": str(tmp_path / "event.json")}
    assert workflow.is_trusted(environment) is trusted


def test_nothing_is_uploaded_for_a_fork_and_the_gate_still_closes(project, act):
    project.add(kind="bad")
    ran = act("model.onnx", event=pull_request("somebody/project"), upload_sarif="true")
    assert not ran.success
    assert ran.steps[LAST] == "failure"
    assert not {UPLOAD, SARIF} & set(ran.used)
    assert "model.onnx" in ran.summary


def test_without_summary_and_report(project, act):
    project.add()
    ran = act("model.onnx", summary="false", upload_report="false")
    assert ran.success
    assert not ran.summary
    assert not {UPLOAD, SARIF} & set(ran.used)


def test_reports_of_an_earlier_run_do_not_count(project, act):
    project.add()
    assert act("model.onnx", json_file="report.json").outputs["verdict"] == "clean"
    ran = act("missing.onnx", json_file="report.json")
    assert (ran.outputs["verdict"], ran.outputs["json"]) == ("error", "")


def test_install_that_fails_stops_everything(project, act):
    project.add()
    # The steps themselves ignore such variables; the Python that makes the environment refuses at once.
    ran = act("model.onnx", environment={"PYTHONHASHSEED": "nonsense"}, install="true")
    assert not ran.success
    assert (ran.outputs["verdict"], ran.outputs["exit-code"]) == ("error", "")
    assert [name for name, outcome in ran.steps.items() if outcome == "failure"] == ["Install"]
    assert ran.steps["Scan"] == ran.steps[LAST] == "skipped"


def read(**given):
    switches = dict.fromkeys(("install", "cache", "summary", "upload_report", "upload_sarif"), "true")
    given = {**switches, "models": "m.onnx", **given}
    return inputs.read_inputs({f"INPUT_{name.upper()}": value for name, value in given.items()})


def test_what_is_installed():
    python, here = Path("python"), ROOT / "action"
    pinned, torch, plugin = install.commands(read(torch_index="https://example.org/cpu"), python)
    assert pinned[-3:] == ["--require-hashes", "--requirement", str(here / "requirements.txt")]
    assert torch[-5:] == [
        "--no-deps",
        "--index-url",
        "https://example.org/cpu",
        "--requirement",
        str(here / "torch.txt"),
    ]
    assert plugin[-3:] == ["--no-deps", "--no-build-isolation", str(ROOT)]
    assert "--index-url" not in install.commands(read(torch_index=""), python)[1]
    assert install.commands(read(torch_index="none", version="1.2.3"), python) == [
        pinned,
        [*plugin[:-1], "pytest-backdoor==1.2.3"],
    ]


def test_what_is_pinned_is_allowed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    allowed = {(wanted := Requirement(text)).name: wanted for text in project["dependencies"]}
    allowed |= {(wanted := Requirement(text)).name: wanted for text in project["optional-dependencies"]["torch"]}
    lines = [*(ROOT / "action/requirements.txt").read_text(encoding="utf-8").splitlines()]
    lines += (ROOT / "action/torch.txt").read_text(encoding="utf-8").splitlines()
    pinned = [Requirement(line.removesuffix(" \\")) for line in lines if "==" in line and not line.startswith("#")]
    versions = [(wanted.name, next(iter(wanted.specifier)).version) for wanted in pinned]
    assert set(allowed) - {name for name, _ in versions} <= {"safetensors"}
    assert [pin for pin in versions if pin[0] in allowed and pin[1] not in allowed[pin[0]].specifier] == []


def test_settings_of_the_projects_own_tests_do_not_reach_a_scan_apart(project, tmp_path):
    project.add("models/model.onnx")
    project.write("models/test_own.py", "import something_that_the_action_lacks")
    project.write("conftest.py", "import something_that_the_action_lacks")
    options = (
        "addopts = ['--no-such-option']\nrequired_plugins = ['no-such-plugin']\nfilterwarnings = ['error']\nodd = 'x'"
    )
    project.configure(pytest_options=f"{options}\nstrict = true")
    chosen = read(models="models", checks="provenance,litmus")
    files = scan.report_files(chosen, tmp_path)
    ran = subprocess.run([sys.executable, *scan.pytest_arguments(chosen, files)], cwd=project.path, check=False)
    assert ran.returncode == 0
    assert scan.read_result(files["json"], ran.returncode).verdict == "clean"


@pytest.mark.parametrize("text", ["nonsense", "{}", '{"models": 3}', '{"models": [{"verdict": "fine"}]}'])
def test_report_that_cannot_be_read_is_an_error(tmp_path, text):
    (tmp_path / "report.json").write_text(text, encoding="utf-8")
    assert scan.read_result(tmp_path / "report.json", 0).verdict == "error"
    assert scan.read_result(tmp_path / "missing.json", 0).verdict == "error"


def test_outputs_and_annotations_hold_anything(tmp_path, capsys):
    value = "a\nverdict=clean\nx<<y\n%0A::error::"
    environment = {"GITHUB_OUTPUT": str(tmp_path / "output")}
    workflow.write_outputs(environment, {"one": value, "two": ""})
    assert read_outputs((tmp_path / "output").read_text(encoding="utf-8")) == {"one": value, "two": ""}
    workflow.annotate("error", "a:b,c", "x\n::error::y%")
    assert capsys.readouterr().out == "::error title=a%3Ab%2Cc::x%0A::error::y%25\n"


def test_long_summary_is_cut_at_a_line(tmp_path):
    path = tmp_path / "summary.md"
    path.write_text("before\n", encoding="utf-8")
    workflow.write_summary({"GITHUB_STEP_SUMMARY": str(path)}, "über\n" * 300_000)
    text = path.read_text(encoding="utf-8")
    assert path.stat().st_size <= workflow.SUMMARY_BYTES
    assert text.startswith("before\nüber\n")
    assert text.endswith("\nüber\n" + workflow.CUT)


PAGE = (ROOT / "docs" / "github-action.md").read_text(encoding="utf-8")


def test_every_input_and_output_is_documented():
    action = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    named = {
        name
        for cell in re.findall(r"^\| (`[^|]+) \|", PAGE, flags=re.MULTILINE)
        for name in re.findall(r"`([\w-]+)`", cell)
    }
    assert {*action["inputs"], *action["outputs"]} <= named


def test_examples_on_the_page_use_inputs_that_exist():
    action = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    steps = [step for text in re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL) for step in steps_in(text)]
    ours = [step for step in steps if "/pytest-backdoor@" in step.get("uses", "")]
    assert len(ours) == 4
    for step in ours:
        assert set(step["with"]) <= set(action["inputs"])


def steps_in(text):
    """The steps of a workflow or of a part of one."""
    found = yaml.safe_load(text)
    if isinstance(found, list):
        return found
    jobs = found.get("jobs", {"part": found}).values()
    return [step for job in jobs for step in job.get("steps", [])]


@pytest.mark.parametrize(
    "path", [ROOT / "action.yml", *sorted((ROOT / ".github/workflows").glob("*.yml"))], ids=lambda path: path.name
)
def test_actions_are_pinned_and_inputs_stay_out_of_the_shell(path):
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    jobs = document["jobs"].values() if "jobs" in document else [document["runs"]]
    for step in (step for job in jobs for step in job["steps"]):
        assert "${{" not in step.get("run", "")
        used = step.get("uses", "./")
        assert used == "./" or len(used.partition("@")[2]) == 40, used
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if "uses:" in line and "./" not in line]
    assert all("# v" in line for line in lines), lines
