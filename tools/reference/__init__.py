"""The reference pages of the documentation, made from the code: ``python -m tools.reference`` writes them.

They are kept in the repository, so that they can be read there too, and a test compares them with the code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from .checks import checks_page
from .commands import attacks_page, lock_commands_page
from .operators import operators_page
from .options import options_page
from .rules import rules_page
from .schemas import lock_schema_file, lock_schema_page, report_schema_page

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"
REGENERATE = "python -m tools.reference"

FILES: Mapping[str, Callable[[], str]] = {
    "reference/options.md": options_page,
    "reference/checks.md": checks_page,
    "reference/rules.md": rules_page,
    "reference/operators.md": operators_page,
    "reference/report-schema.md": lambda: report_schema_page(DOCS / "schema" / "report-1.json"),
    "reference/lock-schema.md": lock_schema_page,
    "reference/lock-commands.md": lock_commands_page,
    "reference/reference-attacks.md": attacks_page,
    "schema/lock-1.json": lock_schema_file,
}
"""What is made, by its path below ``docs``."""


def made(name: str) -> str:
    """The text of the file ``name`` of ``FILES``, as it should be."""
    text = FILES[name]()
    if name.endswith(".md"):
        note = f"<!-- Made from the code by `{REGENERATE}`: change the code, not this page. -->"
        return f"{note}\n\n{text.strip()}\n"
    return text
