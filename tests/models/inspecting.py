"""Inspecting a bad file the way a scan does: by what its content is, never by its name."""

from __future__ import annotations

from pathlib import Path

from corpus import Case

from pytest_backdoor.findings import Problem
from pytest_backdoor.models._format import sniff_format
from pytest_backdoor.models.inspection import inspect
from pytest_backdoor.rules import RULES


def problems_of(path: Path) -> list[Problem]:
    return inspect(sniff_format(path), path.read_bytes(), path.name, {})


def require_refused(case: Case, folder: Path) -> list[Problem]:
    """The case is found, refused and said to be so; nothing in it ran."""
    canary = folder / "canary"
    path = case.write(folder, canary)
    problems = problems_of(path)
    assert case.rules & {problem.rule for problem in problems}
    if "not-finite-weights" not in case.rules:
        assert any(RULES[problem.rule].refuses for problem in problems)
    for problem in problems:
        assert problem.message.startswith(path.name)
        assert problem.message.endswith(".")
        assert problem.message.isprintable()
        assert len(problem.message) < 300
        assert problem.remedy
        assert problem.path == path.name
        assert problem.blocks
    assert not canary.exists()
    return problems


def name_of(case: Case) -> str:
    return f"row_{case.row:02}_{case.name}"
