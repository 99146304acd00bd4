"""The checks one by one, from the entry points."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import Any

from pytest_backdoor.checks import GROUP, check_names
from pytest_backdoor.settings import MODEL_SETTINGS

from .markdown import code, from_docstring, table
from .settings_read import settings_read

# These settings say something of the file, but not how images reach the model.
ABOUT_THE_FILE = ("source", "accept")
HEAD = """# Checks

Checks run from the cheapest to the dearest, each as a test of its own: `model.onnx::NAME`. What each of them can and
cannot see is told in [What the checks see](../explanation/what-the-checks-see.md), how they are judged in
[What a p-value means](../explanation/p-values.md). A package can offer checks of its own as entry points of the group
`pytest_backdoor.checks`.
"""
COSTS = {
    "file": "the file alone is read",
    "forward": "the model is run",
    "gradient": "the model is differentiated at its input, which needs the extra `torch`",
}


def checks_page() -> str:
    """Every check of this package in the order in which they run."""
    checks = dict(_own_checks())
    rows = [
        (f"[{code(name)}](#{name})", COSTS[check.cost.value], "yes" if check.behavioural else "no")
        for name, check in checks.items()
    ]
    overview = table(["check", "cost", "looks at behaviour"], rows)
    common = ", ".join(code(name) for name in MODEL_SETTINGS if name not in ABOUT_THE_FILE)
    said = (
        f"All checks but `provenance` see the model as the settings that describe it say ({common}), within `timeout` "
        "and `memory`. The settings below are those that a check itself reads; [options](options.md) tells what they "
        "mean."
    )
    return "\n\n".join([HEAD.rstrip(), overview, said, *(_section(name, check) for name, check in checks.items())])


def _own_checks() -> Iterator[tuple[str, Any]]:
    points = {point.name: point for point in entry_points(group=GROUP) if point.value.startswith("pytest_backdoor.")}
    for name in check_names():
        if name in points:
            yield name, points[name].load()


def _section(name: str, check: Any) -> str:
    method = getattr(check, "measure", check.run)
    read = ", ".join(map(code, settings_read(check))) or "none"
    parts = [f"## {name}", _prose(check), _prose(method), f"Settings: {read}."]
    return "\n\n".join(parts)


def _prose(documented: Any) -> str:
    return from_docstring(inspect.cleandoc(documented.__doc__ or ""))
