"""The ONNX operators that can be differentiated, from the table that translates them."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping

from .markdown import code, first_sentence, from_docstring, table

HEAD = """# ONNX operators

The gradient-based checks (`margin`, `reversal`) translate an ONNX graph to torch and compare the translation with ONNX
Runtime on the model itself. A model with an operator that is not listed, or with a variant of one that has no
differentiable form, is searched without gradients and its `reversal` is `not_assessed`; the message names the operator.
`provenance`, `litmus` and everything else that only runs a model take whatever ONNX Runtime runs.
"""


def operators_page() -> str:
    """All operators, by the module that translates them."""
    from pytest_backdoor.models.graph import _plan  # noqa: F401  (fills the tables)
    from pytest_backdoor.models.graph._registry import OPERATORS, RUNTIME_DOMAIN, RUNTIME_OPERATORS

    return (
        f"{HEAD}\n{len(OPERATORS)} operators of ONNX's own domain:\n\n{_by_module(OPERATORS)}\n\n"
        f"{len(RUNTIME_OPERATORS)} of ONNX Runtime's domain `{RUNTIME_DOMAIN}`:\n\n{_by_module(RUNTIME_OPERATORS)}"
    )


def _by_module(operators: Mapping[str, object]) -> str:
    modules: dict[str, list[str]] = {}
    for name, operator in operators.items():
        modules.setdefault(inspect.unwrap(operator.function).__module__, []).append(name)  # type: ignore[attr-defined]
    rows = [
        (first_sentence(from_docstring(sys.modules[module].__doc__ or "")), ", ".join(map(code, sorted(names))))
        for module, names in sorted(modules.items())
    ]
    return table(["what", "operators"], rows)
