"""The rules of the provenance check."""

from __future__ import annotations

from pytest_backdoor.rules import RULES

from .markdown import code, table

HEAD = """# Rules of provenance

Each problem that the [`provenance`](../provenance.md) check finds names one of these rules. *Refused*: no check opens a
file that breaks it. *Excusable*: an entry of the lock file may allow it, with a reason and a last day
([how](../how-to/accept-a-finding.md)).
"""


def rules_page() -> str:
    """All rules in the order of the code."""
    rows = [
        (code(rule.name), rule.title, rule.broken_where, "refused" * rule.refuses + "excusable" * rule.excusable)
        for rule in RULES.values()
    ]
    return f"{HEAD}\n{table(['rule', 'what is wrong', 'broken where', ''], rows)}"
