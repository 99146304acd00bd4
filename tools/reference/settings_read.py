"""Which settings a check reads, from its source."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import Any

from pytest_backdoor.checks._base import BehaviouralCheck, Context
from pytest_backdoor.settings import MODEL_SETTINGS, SETTING_NAMES


def settings_read(check: Any) -> list[str]:
    """The settings that a check class reads by itself or through the scan's context, as they are declared.

    Those that only describe the model are left out: whatever opens a model reads them.
    """
    names = _attributes(*map(_tree, _files(check)))
    if issubclass(check, BehaviouralCheck):
        names |= _attributes(ast.parse(inspect.getsource(BehaviouralCheck)))
    through_context = _context_methods()
    pending = [name for name in names if name in through_context]
    while pending:
        new = through_context.pop(pending.pop(), set())
        names |= new
        pending += [name for name in new if name in through_context]
    return [name for name in SETTING_NAMES if name in names and name not in MODEL_SETTINGS]


def _files(check: Any) -> list[Path]:
    path = Path(inspect.getfile(check))
    return sorted(path.parent.rglob("*.py")) if path.name in ("__init__.py", "_check.py") else [path]


def _tree(path: Path) -> ast.AST:
    return ast.parse(path.read_text(encoding="utf-8"))


def _context_methods() -> dict[str, set[str]]:
    """What each member of the context mentions: settings and other members."""
    (declared,) = ast.parse(inspect.getsource(Context)).body
    assert isinstance(declared, ast.ClassDef)
    return {member.name: _attributes(member) for member in declared.body if isinstance(member, ast.FunctionDef)}


def _attributes(*trees: ast.AST) -> set[str]:
    """Attributes of anything that is called settings, context or self: ``settings.fpr``, ``context.samples_for``."""
    found = set()
    for node in (each for tree in trees for each in ast.walk(tree)):
        if isinstance(node, ast.Attribute):
            owner = node.value
            name = owner.attr if isinstance(owner, ast.Attribute) else owner.id if isinstance(owner, ast.Name) else ""
            if name in ("settings", "context", "self"):
                found.add(node.attr)
    return found
