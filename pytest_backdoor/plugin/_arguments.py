"""Which models the arguments of a run name. No model file is opened here."""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from ..errors import SettingsError
from ..models import MODEL_SUFFIXES
from ..models.hub import HUB_PREFIX, HubFile, fetch
from ..scanning import display_name
from ._settings import RunSettings


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """A model from the Hub, ``name`` as it was typed."""

    name: str
    file: HubFile


@dataclass(frozen=True, kw_only=True)
class ScanTargets:
    """``roots``: files and folders whose models are scanned. ``fetched``: those that are from the Hub."""

    roots: tuple[Path, ...]
    fetched: Mapping[Path, Fetched]

    def include(self, path: Path) -> bool:
        """Whether ``path`` is a model file that was asked for, itself or through a folder."""
        return path.suffix.lower() in MODEL_SUFFIXES and any(
            path == root or root in path.parents for root in self.roots
        )

    def display(self, path: Path, root: Path) -> str:
        """The name of a model in reports and node ids."""
        fetched = self.fetched.get(path)
        return fetched.name if fetched else display_name(str(path), path, root)

    def hub(self, path: Path) -> HubFile | None:
        """What is known of a model that was fetched from the Hub."""
        fetched = self.fetched.get(path)
        return fetched.file if fetched else None


def find_targets(config: pytest.Config, settings: RunSettings) -> ScanTargets:
    """What this run scans; ``config.args`` becomes what pytest has to collect.

    Raises SettingsError if nothing is named, or something that does not exist.
    """
    fetched: dict[Path, Fetched] = {}
    if config.args_source is pytest.Config.ArgsSource.ARGS:
        arguments = [found for typed in config.args for found in _expand(typed, config, fetched)]
        scanned = arguments
    else:
        scanned = [_fetch(model, fetched) for model in settings.listed_models()]
        if not scanned:
            raise SettingsError(
                "--backdoor-scan has nothing to scan: name a model (pytest --backdoor-scan model.onnx), a folder, or "
                "list models in [[tool.pytest-backdoor.models]] of pyproject.toml."
            )
        arguments = [*config.args, *scanned]
    for argument in scanned:
        _refuse_brackets(argument.partition("::")[0])
    config.args[:] = arguments
    base = config.invocation_params.dir
    roots = tuple(Path(os.path.abspath(base / argument.split("::")[0])) for argument in scanned)
    return ScanTargets(roots=roots, fetched=fetched)


def _expand(typed: str, config: pytest.Config, fetched: dict[Path, Fetched]) -> list[str]:
    if typed.startswith(HUB_PREFIX):
        return [_fetch(typed, fetched)]
    base = config.invocation_params.dir
    file, separator, rest = typed.partition("::")
    if (base / file).exists():
        return [typed]
    if glob.has_magic(file):
        found = sorted(glob.glob(file, root_dir=base, recursive=True))
        if found:
            return [f"{path}{separator}{rest}" for path in found]
        raise SettingsError(f"No file matches {file}; nothing was scanned.")
    if config.option.pyargs:
        return [typed]
    raise SettingsError(f"There is no file or folder {file}; nothing was scanned. Check the path.")


def _refuse_brackets(file: str) -> None:
    if "[" in file:
        raise SettingsError(f"pytest cannot collect {file}, since its name holds a [; rename it or scan its folder.")


def _fetch(name: str, fetched: dict[Path, Fetched]) -> str:
    if not name.startswith(HUB_PREFIX):
        return name
    model, separator, rest = name.partition("::")
    file = fetch(model)
    path = Path(os.path.abspath(file.path))
    earlier = fetched.setdefault(path, Fetched(name=model, file=replace(file, path=path)))
    if earlier.name != model:  # reports and the lock file can name it in one way only
        raise SettingsError(f"{earlier.name} and {model} are the same file at present; name it once, by its commit.")
    return f"{path}{separator}{rest}"
