"""The action's inputs, as environment variables ``INPUT_NAME``, read and validated."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PREFIX = "INPUT_"
KEPT = "inputs.json"
FAIL_ON = ("unverified", "suspicious", "never")
SUFFIXES = {"json-file": ".json", "sarif-file": ".sarif", "html-file": ".html"}


class UsageError(Exception):
    """An input that cannot be used; the message names it and says what to write."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What the workflow asks for; see action.yml for the meaning of each.

    ``models``, ``checks`` and ``extra_args`` are lists of one entry per line; the rest are single values, empty where
    the workflow leaves the decision to the plugin.
    """

    models: tuple[str, ...]
    checks: tuple[str, ...]
    data: str
    config: str
    lock: str
    time_budget: str
    fail_on: str
    extra_args: tuple[str, ...]
    install: bool
    version: str
    torch_index: str
    cache: bool
    summary: bool
    upload_report: bool
    upload_sarif: bool
    report_name: str
    files: Mapping[str, str]


def read_inputs(environment: Mapping[str, str]) -> Inputs:
    """The inputs in ``environment``. Raises UsageError for one that cannot be used."""
    text = {name: environment.get(variable(name), "").strip() for name in _SINGLE}
    files = {name: environment.get(variable(name), "").strip() for name in SUFFIXES}
    for name, suffix in SUFFIXES.items():
        if files[name] and not files[name].endswith(suffix):
            raise UsageError(f"The input {name} is {files[name]!r}; its name must end in {suffix}.")
    fail_on = environment.get(variable("fail-on"), "").strip() or FAIL_ON[0]
    if fail_on not in FAIL_ON:
        raise UsageError(f"The input fail-on is {fail_on!r}; write {', '.join(FAIL_ON[:-1])} or {FAIL_ON[-1]}.")
    models = _lines(environment, "models")
    if not models:
        raise UsageError(
            "The input models is empty, so nothing would be scanned; name one model, folder or glob a line."
        )
    return Inputs(
        models=tuple(map(as_path, models)),
        checks=tuple(
            name.strip() for line in _lines(environment, "checks") for name in line.split(",") if name.strip()
        ),
        data=text["data"],
        config=text["config"],
        lock=text["lock"],
        time_budget=_seconds(text["time-budget"]),
        fail_on=fail_on,
        extra_args=_lines(environment, "extra-args"),
        install=_flag(environment, "install"),
        version=text["version"],
        torch_index=text["torch-index"],
        cache=_flag(environment, "cache"),
        summary=_flag(environment, "summary"),
        upload_report=_flag(environment, "upload-report"),
        upload_sarif=_flag(environment, "upload-sarif"),
        report_name=text["report-name"],
        files=files,
    )


_SINGLE = ("data", "config", "lock", "time-budget", "version", "torch-index", "report-name")


def keep_inputs(environment: Mapping[str, str], folder: Path) -> None:
    """Hand the inputs, as they were given, to the steps that follow in ``folder``."""
    given = {name: value for name, value in environment.items() if name.startswith(PREFIX)}
    (folder / KEPT).write_text(json.dumps(given), encoding="utf-8")


def kept_inputs(folder: Path) -> Inputs:
    """The inputs that ``keep_inputs`` left. Raises as ``read_inputs``."""
    return read_inputs(json.loads((folder / KEPT).read_text(encoding="utf-8")))


def variable(name: str) -> str:
    """The environment variable of an input: ``fail-on`` is ``INPUT_FAIL_ON``."""
    return f"{PREFIX}{name.upper().replace('-', '_')}"


def as_path(model: str) -> str:
    """A model as pytest takes it for a path: an option (``-x``) or a file of arguments (``@x``) is none."""
    return f"./{model}" if model.startswith(("-", "@")) else model


def _lines(environment: Mapping[str, str], name: str) -> tuple[str, ...]:
    lines = environment.get(variable(name), "").splitlines()
    return tuple(line.strip() for line in lines if line.strip())


def _flag(environment: Mapping[str, str], name: str) -> bool:
    value = environment.get(variable(name), "").strip().lower()
    if value not in ("true", "false"):
        raise UsageError(f"The input {name} is {value!r}; write true or false.")
    return value == "true"


def _seconds(value: str) -> str:
    try:
        sensible = not value or 0 <= float(value) < float("inf")
    except ValueError:
        sensible = False
    if not sensible:
        raise UsageError(f"The input time-budget is {value!r}; write a number of seconds, 0 for no limit.")
    return value
