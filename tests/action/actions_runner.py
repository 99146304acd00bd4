"""A small runner of composite actions: it does to action.yml what GitHub's runner does, apart from ``uses`` steps."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml
from expressions import condition, expand

ROOT = Path(__file__).resolve().parents[2]
PUSH: Mapping[str, Any] = {"ref": "refs/heads/main"}
REPOSITORY = "owner/project"


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What a run of the action left. ``steps``: their outcomes by name; ``used``: what ``uses`` steps were given."""

    success: bool
    outputs: Mapping[str, str]
    steps: Mapping[str, str]
    used: Mapping[str, Mapping[str, str]]
    summary: str
    log: str


@dataclass(kw_only=True)
class ActionRunner:
    """Runs the action in ``workspace``; ``temporary`` holds what the runner keeps between its steps."""

    workspace: Path
    temporary: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(self, inputs: Mapping[str, str], event: Mapping[str, Any] = PUSH) -> Ran:
        """Run every step of action.yml whose condition holds."""
        action = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
        assert set(inputs) <= set(action["inputs"]), "the action has no such input"
        given = {name: inputs.get(name, declared.get("default", "")) for name, declared in action["inputs"].items()}
        contexts: dict[str, Any] = {"inputs": given, "steps": {}, "github": {"event": event}}
        (self.temporary / "event.json").write_text(json.dumps(event), encoding="utf-8")
        outcomes, used, logs, summaries = {}, {}, [], []
        failed = False
        for number, step in enumerate(action["runs"]["steps"]):
            if not condition(step.get("if"), contexts, failed=failed):
                outcomes[step["name"]] = "skipped"
                continue
            if "uses" in step:
                used[step["uses"].split("@")[0]] = self._with(step, contexts)
                outputs, status = self._used(step["uses"]), 0
            else:
                outputs, status, log, summary = self._run(step, contexts, number)
                logs.append(log)
                summaries.append(summary)
            outcomes[step["name"]] = "failure" if status else "success"
            failed = failed or bool(status)
            if "id" in step:
                contexts["steps"][step["id"]] = {"outputs": outputs}
        values = {name: expand(output["value"], contexts) for name, output in action["outputs"].items()}
        return Ran(
            success=not failed,
            outputs=values,
            steps=outcomes,
            used=used,
            summary="".join(summaries),
            log="".join(logs),
        )

    @staticmethod
    def _with(step: Mapping[str, Any], contexts: Mapping[str, Any]) -> dict[str, str]:
        return {name: expand(str(value), contexts) for name, value in step.get("with", {}).items()}

    @staticmethod
    def _used(name: str) -> dict[str, str]:
        return {"python-path": sys.executable} if name.startswith("actions/setup-python@") else {}

    def _run(
        self, step: Mapping[str, Any], contexts: Mapping[str, Any], number: int
    ) -> tuple[dict[str, str], int, str, str]:
        files = {name: self.temporary / f"{name}-{number}" for name in ("output", "summary", "script")}
        for path in files.values():
            path.write_text("", encoding="utf-8")
        files["script"].write_text(expand(step["run"], contexts), encoding="utf-8")
        environment = {
            **self._environment(),
            "GITHUB_OUTPUT": str(files["output"]),
            "GITHUB_STEP_SUMMARY": str(files["summary"]),
            **{name: expand(str(value), contexts) for name, value in step.get("env", {}).items()},
        }
        assert step["shell"] == "bash"
        ran = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(files["script"])],
            cwd=self.workspace,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            check=False,
        )
        summary = files["summary"].read_text(encoding="utf-8")
        return read_outputs(files["output"].read_text(encoding="utf-8")), ran.returncode, ran.stdout, summary

    def _environment(self) -> dict[str, str]:
        commands = self.temporary / "bin"
        commands.mkdir(exist_ok=True)
        python = commands / "python"
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n', encoding="utf-8")
        python.chmod(0o755)
        kept = {name: os.environ[name] for name in ("HOME", "PYTHONPATH", "LANG") if name in os.environ}
        return {
            **kept,
            "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            "GITHUB_ACTION_PATH": str(ROOT),
            "GITHUB_WORKSPACE": str(self.workspace),
            "GITHUB_REPOSITORY": REPOSITORY,
            "GITHUB_EVENT_PATH": str(self.temporary / "event.json"),
            "GITHUB_JOB": "scan",
            "RUNNER_TEMP": str(self.temporary),
            **self.environment,
        }


def action_module(name: str) -> ModuleType:
    """A module of the action's Python part, which import each other as the files of one folder."""
    folder = str(ROOT / "action")
    if folder not in sys.path:
        sys.path.append(folder)
    return importlib.import_module(name)


def read_outputs(text: str) -> dict[str, str]:
    """A file of outputs as GitHub reads it: ``name=value``, or ``name<<END`` with the lines up to END."""
    found, lines = {}, iter(text.splitlines())
    for line in lines:
        name, mark, end = line.partition("<<")
        if not mark:
            name, _, found[name] = line.partition("=")
            continue
        value = []
        for inner in lines:
            if inner == end:
                break
            value.append(inner)
        else:
            raise ValueError(f"no end of {name}")
        found[name] = "\n".join(value)
    return found
