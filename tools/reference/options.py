"""Options and settings, from the plugin's options and the settings' declarations."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from pytest_backdoor.settings import MODEL_SETTINGS, ScanSettings

from .arguments import meaning
from .markdown import code, table

HEAD = """# Options and settings

Every option has a key in `[tool.pytest-backdoor]` of `pyproject.toml`. The command line comes before a model's own
table, that before the common table, that before the default. A key that does not exist is an error everywhere.
What they are for is told in [usage.md](../usage.md).

```toml
[tool.pytest-backdoor]            # for all models
fpr = 0.01
reports = ["scan.json"]

[[tool.pytest-backdoor.models]]   # for those that `path` names
path = "models/*.onnx"
data = "samples.npz"
input_range = [0, 255]
```
"""
MODELS = """## Keys of a model

Of `[[tool.pytest-backdoor.models]]`, beside any of the keys above but `reports`; `path` is required. Those that
describe the models may also stand in `[tool.pytest-backdoor]`, if they are the same for all.
"""
PYTHON = """## In Python

`@pytest.mark.backdoor_scan(model, ...)`, the fixture `backdoor_scan(model, ...)` and `pytest_backdoor.scan(model, ...)`
take the same keys, but `path` and `reports`, as keywords.
"""

KINDS = {
    "str | None": "text",
    "tuple[str, ...] | None": "names",
    "float": "number",
    "int": "whole number",
    "str": "text",
    "bool": "true or false",
    "Layout | None": "text",
    "ChannelOrder | None": "text",
    "tuple[float, float] | None": "two numbers",
    "tuple[float, ...] | None": "numbers",
    "tuple[int, int, int] | None": "three whole numbers",
    "tuple[Acceptance, ...] | None": "tables",
}


def options_page() -> str:
    """Options with their keys, then the keys that only models have."""
    declared = {field.name: field for field in fields(ScanSettings)}
    options = [(action, _key(action)) for action in plugin_options()]
    rows = [
        (
            code(_option(action)),
            code(key) if key in (*declared, "reports") else "",
            _kind(key, declared),
            meaning(action),
        )
        for action, key in options
    ]
    models = [
        (code("path"), "text", "The file, a glob, or an `hf://` name; required"),
        *((code(name), _kind(name, declared), said) for name, said in MODEL_SETTINGS.items()),
    ]
    header = ["option", "key", "value of the key", "meaning"]
    return "\n".join([HEAD, "## Options\n", table(header, rows), "", MODELS, table(header[1:], models), "", PYTHON])


class _Recorder:
    """Stands in for pytest's parser and keeps what the plugin adds."""

    def __init__(self) -> None:
        self.parser = argparse.ArgumentParser()
        self.kept: list[argparse.Action] = []

    def getgroup(self, name: str, description: str = "") -> _Recorder:
        return self

    def addoption(self, *names: str, **settings: Any) -> None:
        self.kept.append(self.parser.add_argument(*names, **settings))


def plugin_options() -> list[argparse.Action]:
    """The options that the plugin adds to pytest."""
    from pytest_backdoor.plugin import pytest_addoption

    recorder = _Recorder()
    pytest_addoption(recorder)  # type: ignore[arg-type]
    return recorder.kept


def _key(action: argparse.Action) -> str:
    key = action.dest.removeprefix("backdoor_")
    return "reports" if key == "report" else key


def _option(action: argparse.Action) -> str:
    return f"{action.option_strings[0]} {action.metavar or ''}".rstrip()


def _kind(key: str, declared: Mapping[str, Any]) -> str:
    """What the key takes; nothing for what is no setting."""
    if key == "reports":
        return "names"
    return KINDS[declared[key].type] if key in declared else ""
