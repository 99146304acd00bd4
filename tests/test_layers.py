"""An arrow of imports points downwards only, and nothing heavy is imported before it is used."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "pytest_backdoor"
MODULES = sorted(path.relative_to(PACKAGE.parent) for path in PACKAGE.rglob("*.py"))
BOTTOM = ("acceptance", "findings", "rules", "settings", "errors", "files", "")
LEVELS = dict.fromkeys(BOTTOM, 0) | {
    name: level for level, name in enumerate(["models", "calibration", "checks", "scanning", "report", "plugin"], 1)
}
LEVELS["cli"] = LEVELS["plugin"]
# The names that the package itself offers are imported when they are first used.
LAZY = {"pytest_backdoor/__init__.py"}
HEAVY = {"torch", "onnx", "onnxruntime", "numpy"}
USES_TORCH = (
    "models/graph/",
    "models/_torch",
    "checks/margin/_check",
    "checks/margin/_maximise",
    "checks/margin/_patches",
    "checks/_threads",
    "checks/reversal/_box_",
    "checks/reversal/_channels_last",
    "checks/reversal/_check",
    "checks/reversal/_detectors",
    "checks/reversal/_evidence",
    "checks/reversal/_families",
    "checks/reversal/_fallback",
    "checks/reversal/_images",
    "checks/reversal/_linear",
    "checks/reversal/_nominate",
    "checks/reversal/_s",
    "checks/reversal/_ways",
)
# Imported by the check when it needs them, and made of numpy.
USES_NUMPY = (
    *(f"checks/reversal/_{name}" for name in ("arm", "candidates", "gradient_free", "queries")),
    "checks/training_data/_c",
    "checks/training_data/_e",
    "checks/training_data/_neighbours",
    "checks/training_data/_pool",
    "checks/training_data/_s",
)


def imports(tree: ast.AST, module: Path, *, at_import: bool) -> Iterator[str]:
    """Full names that a module imports; ``at_import``: only those that its own import causes."""
    for node in ast.iter_child_nodes(tree):
        if at_import and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if at_import and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = ".".join(module.parts[: len(module.parts) - node.level]) if node.level else ""
            base = ".".join(part for part in (package, node.module) if part)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
        yield from imports(node, module, at_import=at_import)


def imported(module: Path, *, at_import: bool = False) -> set[str]:
    tree = ast.parse((PACKAGE.parent / module).read_text(encoding="utf-8"))
    return set(imports(tree, module, at_import=at_import))


def layer(name: str) -> str:
    parts = [*name.split("."), ""]
    return parts[1] if parts[1] in LEVELS else ""


def test_every_module_has_a_layer():
    tops = {path.parts[1].removesuffix(".py") for path in MODULES}
    assert tops - {"__init__"} <= set(LEVELS)


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_imports_point_downwards(module):
    if module.as_posix() in LAZY:
        return
    own = LEVELS[layer(".".join(module.with_suffix("").parts))]
    used = {name for name in imported(module) if name.split(".")[0] == "pytest_backdoor"}
    assert {name for name in used if LEVELS[layer(name)] > own} == set()
    assert not {layer(name) for name in used} & ({"plugin"} if module.parts[1] == "cli" else {"cli"})


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_who_may_import_what(module):
    roots = {name.split(".")[0] for name in imported(module)}
    assert "reference_attacks" not in roots
    assert not roots & {"pytest", "_pytest"} or module.parts[1] == "plugin"
    assert "_pytest" not in roots


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_nothing_heavy_at_import(module):
    inner = module.relative_to("pytest_backdoor").as_posix()
    if not inner.startswith(USES_TORCH):
        allowed = {"numpy"} if inner.startswith(USES_NUMPY) else set()
        assert not {name.split(".")[0] for name in imported(module, at_import=True)} & HEAVY - allowed


def test_the_walk_sees_what_it_should():
    source = (
        "import a\nif TYPE_CHECKING:\n    import b\ntry:\n    from ..c import d\nexcept E: pass\ndef f():\n    import g"
    )
    module = Path("pytest_backdoor/x/y.py")
    everything = set(imports(ast.parse(source), module, at_import=False))
    assert everything == {"a", "b", "pytest_backdoor.c", "pytest_backdoor.c.d", "g"}
    assert set(imports(ast.parse(source), module, at_import=True)) == everything - {"b", "g"}
