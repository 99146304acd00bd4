"""The workflows of this repository: what the self-test wants is what the action gives; what a release needs agrees."""

from __future__ import annotations

import importlib.util
import re
import sys

import pytest
import yaml
from actions_runner import ROOT, ActionRunner

import pytest_backdoor

SELFTEST = yaml.safe_load((ROOT / ".github/workflows/selftest.yml").read_text(encoding="utf-8"))
CASES = SELFTEST["jobs"]["action"]["strategy"]["matrix"]["case"]


def compare_outputs():
    specification = importlib.util.spec_from_file_location("compare_outputs", ROOT / ".github" / "compare_outputs.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.skipif(sys.platform == "win32", reason="the small runner needs bash and executable scripts")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_every_case_of_the_self_test(tmp_path, case):
    # With the plugin that is installed here, and the checks that need no torch.
    inputs = {"models": case["models"], "checks": case.get("checks", "provenance,litmus"), "install": "false"}
    ran = ActionRunner(workspace=ROOT, temporary=tmp_path).run({**inputs, "fail-on": case.get("fail-on", "unverified")})
    outcome = "success" if ran.success else "failure"
    given = {f"WANTED_{name.upper().replace('-', '_')}": case[name] for name in ("outcome", "verdict", "exit-code")}
    given |= {name.upper().replace("-", "_"): value for name, value in ran.outputs.items()}
    assert compare_outputs().differences({**given, "OUTCOME": outcome}) == [], ran.log


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"VERDICT": "clean"}, "VERDICT"),
        ({"SARIF": ""}, "SARIF"),
        ({"FINDINGS": "0"}, "FINDINGS"),
        ({"OUTCOME": ""}, "OUTCOME"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_self_test_can_fail(tmp_path, changed, named):
    (tmp_path / "r.json").write_text('{"models": [{"verdict": "suspicious"}]}', encoding="utf-8")
    wanted = {"WANTED_OUTCOME": "failure", "WANTED_VERDICT": "suspicious", "WANTED_EXIT_CODE": "1"}
    files = dict.fromkeys(("JSON", "SARIF", "HTML"), str(tmp_path / "r.json"))
    good = {**wanted, **files, "OUTCOME": "failure", "VERDICT": "suspicious", "EXIT_CODE": "1", "FINDINGS": "2"}
    assert compare_outputs().differences(good) == []
    assert named in " ".join(compare_outputs().differences({**good, **changed}))


def test_the_self_test_tells_all_that_is_compared():
    (step,) = [step for step in SELFTEST["jobs"]["action"]["steps"] if step.get("name") == "Compare"]
    source = (ROOT / ".github" / "compare_outputs.py").read_text(encoding="utf-8")
    assert set(re.findall(r'given\["([A-Z_]+)"\]', source)) <= set(step["env"])


def test_one_version_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert str(citation["version"]) == pytest_backdoor.__version__
    for page in ("README.md", "docs/github-action.md", "docs/examples/repository/.pre-commit-config.yaml"):
        versions = re.findall(r"(?:pytest-backdoor@|rev: )v([\d.]+)", (ROOT / page).read_text(encoding="utf-8"))
        assert set(versions) == {pytest_backdoor.__version__}, page
