"""What names and arguments in a Python module stand for, as far as the module alone tells."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any


class Unknown(Enum):
    """The value of an argument that only running the program would tell."""

    UNKNOWN = "unknown"


UNKNOWN = Unknown.UNKNOWN


@dataclass(frozen=True, kw_only=True)
class Names:
    """``imports``: full name of what each imported name means. ``constants``: values of names that are bound once."""

    imports: Mapping[str, str]
    constants: Mapping[str, Any]

    def dotted(self, node: ast.expr) -> str:
        """The full name of a function that is called; "?" stands for what is no plain name."""
        if isinstance(node, ast.Name):
            return self.imports.get(node.id, node.id)
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        first = self.imports.get(node.id, node.id) if isinstance(node, ast.Name) else "?"
        return ".".join([first, *reversed(parts)])

    def value(self, node: ast.expr | None) -> Any:
        """The value of an argument: a literal's or a module constant's, else ``UNKNOWN``."""
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name):
            return self.constants.get(node.id, UNKNOWN)
        return UNKNOWN


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """The arguments of one call.

    ``complete``: no argument is hidden in ``*args`` or ``**kwargs``.
    """

    positional: tuple[Any, ...]
    keywords: Mapping[str, Any]
    complete: bool

    def get(self, name: str, position: int | None = None, default: Any = None) -> Any:
        """The value of the parameter, ``UNKNOWN`` if it cannot be told, ``default`` if it is certainly not given."""
        if name in self.keywords:
            return self.keywords[name]
        if position is not None and position < len(self.positional):
            return self.positional[position]
        return default if self.complete else UNKNOWN


def module_names(tree: ast.Module) -> Names:
    """The imports and constants of a module. A name that is bound twice, in whatever scope, is no constant."""
    imports: dict[str, str] = {}
    bound: Counter[str] = Counter()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            imports |= _imported(node)
        bound.update(_bound(node))
    constants = {
        name: value
        for statement in tree.body
        for name, value in _constants(statement)
        if bound[name] == 1  # else which of the values it has depends on when it is asked
    }
    return Names(imports=imports, constants=constants)


def _imported(node: ast.Import | ast.ImportFrom) -> dict[str, str]:
    if isinstance(node, ast.ImportFrom):
        module = f"{'.' * node.level}{node.module or ''}"
        return {alias.asname or alias.name: f"{module}.{alias.name}" for alias in node.names}
    # `import a.b` binds a, `import a.b as c` binds a.b.
    tops = {alias.name.partition(".")[0] for alias in node.names if not alias.asname}
    return {top: top for top in tops} | {alias.asname: alias.name for alias in node.names if alias.asname}


def _bound(node: ast.AST) -> Iterable[str]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        return list(_imported(node))
    if isinstance(node, ast.Name):
        return () if isinstance(node.ctx, ast.Load) else (node.id,)
    if isinstance(node, ast.arg):
        return (node.arg,)
    definitions = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    if isinstance(node, definitions | ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
        return (node.name,)
    return ()


def _constants(statement: ast.stmt) -> Iterable[tuple[str, Any]]:
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, ast.AnnAssign):
        targets = [statement.target]
    else:
        return ()
    if not isinstance(statement.value, ast.Constant):
        return ()
    value = statement.value.value
    return [(target.id, value) for target in targets if isinstance(target, ast.Name)]


def call_arguments(call: ast.Call, names: Names) -> Arguments:
    """The arguments of a call, each a value or ``UNKNOWN``."""
    starred = next((i for i, node in enumerate(call.args) if isinstance(node, ast.Starred)), None)
    positional = call.args if starred is None else call.args[:starred]
    return Arguments(
        positional=tuple(names.value(node) for node in positional),
        keywords={word.arg: names.value(word.value) for word in call.keywords if word.arg is not None},
        complete=starred is None and all(word.arg is not None for word in call.keywords),
    )
