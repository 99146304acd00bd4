"""The JSON Schemas of report and lock file as pages."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .lock_schema import lock_schema
from .markdown import code, table

Schema = Mapping[str, Any]

REPORT_HEAD = """# JSON report

What `--backdoor-report scan.json` writes. [report-1.json](../schema/report-1.json) is the JSON Schema of version 1; a
reader of version 1 can rely on every key that is listed as present. [reports.md](../reports.md) tells of the other
formats, and when the files are written.
"""
LOCK_HEAD = """# Lock file

What `models.lock` may hold. [lock-1.json](../schema/lock-1.json) is the JSON Schema of its content as a TOML document,
for editors; the commands check more than a schema can say (names that clash, hashes of the wrong length, addresses).
Whatever is not listed is an error. The commands that write it are told in [lock-file.md](../lock-file.md).
"""


def report_schema_page(path: Path) -> str:
    """The schema file of reports as tables."""
    return f"{REPORT_HEAD}\n{_tables(json.loads(path.read_text(encoding='utf-8')))}"


def lock_schema_page() -> str:
    """The schema of lock files as tables."""
    return f"{LOCK_HEAD}\n{_tables(lock_schema())}"


def lock_schema_file() -> str:
    """The schema of lock files as the text of a JSON file."""
    return json.dumps(lock_schema(), indent=2) + "\n"


def _tables(schema: Schema) -> str:
    sections = [f"## The file\n\n{_table(schema)}"]
    for title, below in _objects(schema):
        said = f"{below['description']}\n\n" if "description" in below else ""
        sections.append(f"## {title}\n\n{said}{_table(below) if 'properties' in below else _choices(below)}")
    return "\n\n".join(sections)


def _objects(schema: Schema) -> Iterator[tuple[str, Schema]]:
    """Every object that has keys of its own, by the name under which others refer to it."""
    for name, definition in schema.get("$defs", {}).items():
        if "properties" in definition:
            yield name, definition
            yield from _nested(definition, name)
        elif "oneOf" in definition:
            yield name, definition
    yield from _nested(schema, "")


def _nested(schema: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    for name, below in schema.get("properties", {}).items():
        inner = below.get("items", below)
        if "properties" in inner:
            title = f"{path}.{name}".lstrip(".")
            yield title, inner
            yield from _nested(inner, title)


def _table(schema: Schema) -> str:
    required = schema.get("required", ())
    rows = [
        (code(name), _kind(below), "yes" if name in required else "", below.get("description", ""))
        for name, below in schema.get("properties", {}).items()
    ]
    return table(["key", "value", "present", "meaning"], rows)


def _choices(schema: Schema) -> str:
    return f"One of {', '.join(map(_kind, schema['oneOf']))}."


def _kind(schema: Schema) -> str:
    if "const" in schema:
        return code(json.dumps(schema["const"]))
    if "enum" in schema:
        return ", ".join(code(json.dumps(value)) for value in schema["enum"])
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{name})"
    kinds = schema.get("type", "object")
    return " or ".join(_one_kind(kind, schema) for kind in ([kinds] if isinstance(kinds, str) else kinds))


def _one_kind(kind: str, schema: Schema) -> str:
    if kind == "array" and "items" in schema:
        return f"array of {_kind(schema['items'])}"
    return {"null": code("null")}.get(kind, kind)
