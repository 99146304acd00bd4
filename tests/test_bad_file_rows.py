"""Every row of the table of bad files has tests of its own."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path

import corpus

from pytest_backdoor.rules import RULES

DOCS = Path(__file__).parents[1] / "docs"
ROWS = set(range(1, 48))


def corpus_cases() -> list[corpus.Case]:
    modules = [importlib.import_module(f"corpus.{found.name}") for found in pkgutil.iter_modules(corpus.__path__)]
    return [case for module in modules for case in getattr(module, "CASES", ())]


def test_the_table_has_all_rows_once():
    text = (DOCS / "bad-files.md").read_text(encoding="utf-8")
    assert [int(number) for number in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)] == sorted(ROWS)


def test_every_row_has_tests():
    sources = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.rglob("test_*.py"))
    named = {int(number) for number in re.findall(r"def test_row_(\d+)", sources)}
    assert named | {case.row for case in corpus_cases()} >= ROWS


def test_cases_have_names_of_their_own():
    cases = [(case.row, case.name) for case in corpus_cases()]
    assert len(cases) == len(set(cases)) > 250


def test_every_rule_is_explained():
    text = (DOCS / "reference" / "rules.md").read_text(encoding="utf-8")
    explained = dict(re.findall(r"^\| `([a-z-]+)` \| .* \| *([a-z]*) *\|$", text, re.MULTILINE))
    assert set(RULES) <= set(explained)
    for name, rule in RULES.items():
        assert explained[name] == ("refused" if rule.refuses else "excusable" if rule.excusable else ""), name
