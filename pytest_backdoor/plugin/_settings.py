"""Settings of a run: the command line before a model's table before ``[tool.pytest-backdoor]`` before the defaults."""

from __future__ import annotations

import fnmatch
import glob
import os
import shlex
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ..checks import check_names, planned_checks
from ..errors import SettingsError
from ..models.hub import HUB_PREFIX
from ..report import REPORT_SUFFIXES
from ..scanning import display_name, with_found_lock
from ..settings import ScanSettings, make_settings

TABLE = "tool.pytest-backdoor"
PYTEST_OWN_FILES = ("pytest.toml", ".pytest.toml")
COMMAND_LINE = (
    "checks",
    "data",
    "train_data",
    "pack",
    "families",
    "fpr",
    "lock",
    "allow_unverified",
    "timeout",
    "memory",
    "seed",
    "device",
)


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Everything that is set for a run.

    ``root``: the folder that settings, models and the lock are relative to. ``typed``: the folder that what is typed is
    relative to. ``config_file``: the one that ``-c`` names. ``settings_file``: the one with the settings, which need
    not exist.
    """

    root: Path
    common: dict[str, Any]
    models: list[dict[str, Any]]
    command_line: dict[str, Any]
    reports: list[Path]
    settings_file: Path
    typed: Path = field(default_factory=Path.cwd)
    config_file: str | None = None

    def for_model(self, display: str, **overrides: Any) -> ScanSettings:
        """The settings of one model, named as in reports. Raises SettingsError."""
        values = dict(self.common)
        for table in self.models:
            if self._names(table["path"], display):
                values |= {name: value for name, value in table.items() if name != "path"}
        settings = make_settings({**values, **self.command_line, **overrides}, where=f"The scan of {display}")
        return with_found_lock(settings, self.root)

    def for_report(self) -> dict[str, Any]:
        """The settings that hold for every model without a table of its own, as JSON values."""
        settings = make_settings({**self.common, **self.command_line}, where="The settings")
        return with_found_lock(settings, self.root).to_json()

    def lock_to_enforce(self) -> Path | None:
        """The lock file that must list every model below a scanned folder; None if provenance is not checked."""
        values = make_settings({**self.common, **self.command_line}, where="The settings")
        settings = with_found_lock(values, self.root)
        wanted = "provenance" in planned_checks(settings)
        return self.root / settings.lock if wanted and settings.lock is not None else None

    def command(self, target: str, *flags: str) -> str:
        """A command that runs ``target`` with what was typed for this run."""
        words = ["pytest", *(("-c", self.config_file) if self.config_file else ()), *flags, target]
        for name, value in self.command_line.items():
            words.append(f"--backdoor-{name.replace('_', '-')}")
            if value is not True:
                words.append(str(value))
        return shlex.join(words)

    def scan_command(self, display: str, check: str = "") -> str:
        """A command that repeats the scan of one model, named as in reports, or one check of it."""
        target = display
        if not display.startswith(HUB_PREFIX):
            target = display_name(display, self.root / display, self.typed)
        return self.command(f"{target}::{check}" if check else target, "--backdoor-scan")

    def listings(self) -> tuple[Path, ...]:
        """The text files that name the models of this run: the lock file, and the one with the settings."""
        lock = self.for_report()["lock"]
        return (*(() if lock is None else (self.root / lock,)), self.settings_file)

    def _names(self, pattern: str, display: str) -> bool:
        absolute = display_name(pattern, self.root / pattern, self.root)
        return display == absolute or _matches(display.split("/"), absolute.split("/"))

    def listed_models(self) -> list[str]:
        """The files that the models tables name. Raises SettingsError for one that names none."""
        found: list[str] = []
        for table in self.models:
            pattern = table["path"]
            if pattern.startswith(HUB_PREFIX):
                found.append(pattern)
                continue
            files = sorted(glob.glob(pattern, root_dir=self.root, recursive=True))
            if not files:
                raise SettingsError(
                    f"{self.settings_file.name}: [[{TABLE}.models]] path = {pattern!r} matches no file."
                )
            found += [str(self.root / file) for file in files]
        return list(dict.fromkeys(found))


def read_settings(config: pytest.Config) -> RunSettings:
    """The settings of this run, all of them validated. Raises SettingsError."""
    path, table = _read_table(config)
    file = path.name
    models = _model_tables(file, table)
    option = config.option
    command_line = {
        name: value for name in COMMAND_LINE if (value := getattr(option, f"backdoor_{name}", None)) is not None
    }
    _from_invocation_folder(command_line, config)
    _validate(command_line, where="The command line")
    common = {name: value for name, value in table.items() if name not in ("models", "reports")}
    _validate(common, where=f"{file}: [{TABLE}]", also=("models", "reports"))
    for entry in models:
        _validate(entry, where=f"{file}: [[{TABLE}.models]]", also=("path",))
    reports = [config.invocation_params.dir / name for name in option.backdoor_report or ()]
    reports = reports or [config.rootpath / name for name in _report_names(file, table)]
    for report in reports:
        if report.suffix not in REPORT_SUFFIXES:
            raise SettingsError(
                f"The report {report.name} has an extension that is not known; use {' or '.join(REPORT_SUFFIXES)}."
            )
    return RunSettings(
        root=config.rootpath,
        common=common,
        models=models,
        command_line=command_line,
        reports=list(dict.fromkeys(reports)),
        typed=config.invocation_params.dir,
        config_file=option.inifilename,
        settings_file=path,
    )


def _validate(values: dict[str, Any], *, where: str, also: tuple[str, ...] = ()) -> None:
    settings = make_settings(values, where=where, also=also)
    named = [("checks", settings.checks), *(("accept: checks", accepted.checks) for accepted in settings.accept or ())]
    for setting, names in named:
        try:
            check_names(names)
        except SettingsError as error:
            raise SettingsError(f"{where}: {setting}: {error}") from None


def _from_invocation_folder(command_line: dict[str, Any], config: pytest.Config) -> None:
    # Paths that are typed belong to the folder in which they are typed; those in pyproject.toml to its own.
    for name in ("data", "train_data", "pack", "lock"):
        if name in command_line:
            command_line[name] = os.path.abspath(config.invocation_params.dir / command_line[name])
            if not os.path.exists(command_line[name]):
                raise SettingsError(
                    f"--backdoor-{name.replace('_', '-')}: there is no {command_line[name]}; check the path."
                )


def _read_table(config: pytest.Config) -> tuple[Path, dict[str, Any]]:
    path = config.rootpath / "pyproject.toml"
    if config.inipath and config.inipath.suffix == ".toml" and config.inipath.name not in PYTEST_OWN_FILES:
        path = config.inipath
    if not path.is_file():
        return path, {}
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path} cannot be read: {error}") from error
    table = document.get("tool", {}).get("pytest-backdoor", {})
    if not isinstance(table, dict):
        raise SettingsError(f"{path}: {TABLE} must be a table.")
    return path, table


def _model_tables(file: str, table: dict[str, Any]) -> list[dict[str, Any]]:
    models = table.get("models", [])
    if not isinstance(models, list) or not all(isinstance(entry, dict) for entry in models):
        raise SettingsError(f"{file}: write models as [[{TABLE}.models]] tables.")
    for entry in models:
        if not isinstance(entry.get("path"), str):
            raise SettingsError(f"{file}: each [[{TABLE}.models]] needs a path, the file or a glob of files.")
    return models


def _report_names(file: str, table: dict[str, Any]) -> list[str]:
    names = table.get("reports", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise SettingsError(f"{file}: [{TABLE}] reports must be a list of file names.")
    return names


def _matches(names: list[str], patterns: list[str]) -> bool:
    """Whether the glob ``patterns`` name the file ``names`` or a folder above it, both split at the slashes."""
    if not patterns:
        return True
    if patterns[0] == "**":
        return _matches(names, patterns[1:]) or (bool(names) and _matches(names[1:], patterns))
    return bool(names) and fnmatch.fnmatchcase(names[0], patterns[0]) and _matches(names[1:], patterns[1:])
