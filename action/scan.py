"""The step that scans: run pytest, keep its exit status, and tell the workflow what was found."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inputs import Inputs, kept_inputs
from install import python_of
from workflow import annotate, without_commands, write_outputs, write_summary

WORST_FIRST = ("suspicious", "error", "unverified", "clean")
# GitHub shows ten annotations of one level for a step.
MOST_ANNOTATIONS = 9
UNVERIFIED = "nothing that looks at its behaviour could be assessed."
SCANNED = (0, 1)
USAGE_ERROR = 4
NO_CHECK_RAN = 5
SUFFIX = {"json": ".json", "sarif": ".sarif", "html": ".html", "summary": ".md"}
# The environment of the action lacks what the project's own tests need, which are not run here: their conftest files,
# plugins and strictness are left out.
APART = (
    "--noconftest",
    *("-p", "no:cacheprovider"),
    *("-o", "addopts="),
    *("-o", "required_plugins="),
    *("-o", "filterwarnings="),
    *("-o", "python_files="),
    *("-o", "strict=false"),
    *("-o", "strict_config=false"),
)


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a scan ended. ``models``: of the JSON report, the worst first; ``verdict``: the worst of them."""

    exit_code: int
    verdict: str
    models: Sequence[Mapping[str, Any]]

    @property
    def findings(self) -> int:
        """How many checks failed that the settings do not accept."""
        failed = [one for model in self.models for one in model["findings"] if one["outcome"] == "failed"]
        return sum(map(_closes, failed))


def scan(environment: Mapping[str, str]) -> int:
    """Scan and set the outputs. The status is 0 whatever was found: the last step fails, after the reports are out."""
    folder = Path(environment["FOLDER"])
    inputs = kept_inputs(folder)
    files = report_files(inputs, folder)
    for path in files.values():
        # What an earlier run left there must not be taken for the result of this one.
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
    python = str(python_of(folder)) if inputs.install else sys.executable
    with without_commands():
        command = [python, *pytest_arguments(inputs, files)]
        exit_code = subprocess.run(command, env=_environment(inputs, environment), check=False).returncode
    result = read_result(files["json"], exit_code)
    # After a usage error nothing was scanned, and reports that say no more than that hide the sentence that says why.
    written = {name: path for name, path in files.items() if exit_code != USAGE_ERROR and path.is_file()}
    _tell(result, inputs, written.get("summary"), environment)
    for name, path in written.items():
        shutil.copy(path, _made(folder / "upload") / f"backdoor-report{SUFFIX[name]}")
    write_outputs(
        environment,
        {
            "exit-code": str(exit_code),
            "verdict": result.verdict,
            "findings": str(result.findings),
            # Of an unfinished scan there may be half a report, whose upload would hide the real error behind its own.
            "scanned": str(exit_code in SCANNED and bool(result.models)).lower(),
            "upload": str(folder / "upload") if written else "",
            **{name: str(written.get(name, "")) for name in ("json", "sarif", "html")},
        },
    )
    return 0


def _made(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


def _environment(inputs: Inputs, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of pytest, without what asks for plugins that only the project's own environment has."""
    left_out = ("PYTEST_ADDOPTS", "PYTEST_PLUGINS") if inputs.install else ()
    return {name: value for name, value in environment.items() if name not in left_out}


def report_files(inputs: Inputs, folder: Path) -> dict[str, Path]:
    """Where each report goes: what the workflow names, else a file in the action's own folder."""
    return {
        name: Path(os.path.abspath(inputs.files.get(f"{name}-file") or folder / f"report{suffix}"))
        for name, suffix in SUFFIX.items()
    }


def pytest_arguments(inputs: Inputs, files: Mapping[str, Path]) -> list[str]:
    """The arguments of Python; -P keeps files of the project from standing in for modules that pytest imports."""
    arguments = ["-P", "-X", "utf8", "-m", "pytest", "--backdoor-scan", "--color=yes"]
    arguments += APART if inputs.install else ()
    for option, value in (
        ("-c", inputs.config),
        ("--backdoor-checks", ",".join(inputs.checks)),
        ("--backdoor-data", inputs.data),
        ("--backdoor-lock", inputs.lock),
        ("--backdoor-timeout", inputs.time_budget),
    ):
        # One word, so that a value that looks like an option is none.
        arguments += [f"{option}={value}" if option.startswith("--") else f"{option}{value}"] if value else []
    if inputs.fail_on == "suspicious":
        arguments.append("--backdoor-allow-unverified")
    arguments += [f"--backdoor-report={path}" for path in files.values()]
    return [*arguments, *inputs.extra_args, *inputs.models]


def read_result(report: Path, exit_code: int) -> Result:
    """The result of a scan; ``error`` where it did not run or left no report that can be read."""
    failed = Result(exit_code=exit_code, verdict="error", models=())
    if exit_code not in (*SCANNED, NO_CHECK_RAN):
        return failed
    try:
        models = json.loads(report.read_text(encoding="utf-8"))["models"]
        verdicts = [WORST_FIRST.index(model["verdict"]) for model in models]
    except (OSError, ValueError, KeyError, TypeError):
        return failed
    if not models:
        return Result(exit_code=exit_code, verdict="unverified", models=())
    ordered = [model for _, model in sorted(zip(verdicts, models, strict=True), key=lambda pair: pair[0])]
    return Result(exit_code=exit_code, verdict=WORST_FIRST[min(verdicts)], models=ordered)


def _closes(finding: Mapping[str, Any]) -> bool:
    """Whether a finding keeps the gate closed: an error, or a failure that the settings do not accept."""
    return finding["outcome"] == "error" or (finding["outcome"] == "failed" and not finding.get("accepted"))


def _tell(result: Result, inputs: Inputs, summary: Path | None, environment: Mapping[str, str]) -> None:
    level = "warning" if inputs.fail_on == "never" else "error"
    bad = [model for model in result.models if model["verdict"] != "clean"]
    for model in bad[:MOST_ANNOTATIONS]:
        closing = [finding for finding in model["findings"] if _closes(finding)]
        told = closing or [finding for finding in model["findings"] if finding.get("accepted")]
        text = " ".join([finding["summary"] for finding in told] or [UNVERIFIED])
        how_bad = "notice" if told and not closing else level
        annotate(how_bad, f"Backdoor scan: {model['verdict']}", f"{model['path']}: {text}")
    if not inputs.summary:
        return
    if summary is not None:
        write_summary(environment, summary.read_text(encoding="utf-8"))
    else:
        write_summary(environment, f"Nothing was scanned (pytest's exit status {result.exit_code}); see the log.\n")
