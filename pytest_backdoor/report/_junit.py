"""What the JUnit report says of each check beside its outcome."""

from __future__ import annotations

from ..findings import Finding
from ._evidence import Evidence
from ._strings import one_line

LONGEST_PROPERTY = 500


def junit_properties(finding: Finding, *, sha256: str | None = None) -> list[tuple[str, str | float]]:
    """Names and values of the properties of one check's test case; what is not known is left out."""
    evidence = Evidence(finding.evidence)
    values: dict[str, str | float | None] = {
        "outcome": finding.outcome.value,
        "accepted": finding.accepted,
        "score": finding.score,
        "threshold": evidence.part("reference").number("threshold"),
        "p_value": finding.p_value,
        "target_class": evidence.text("target_name"),
        "rules": ", ".join(dict.fromkeys(problem.rule for problem in finding.problems if problem.blocks)) or None,
        "seed": finding.seed,
        "sha256": sha256,
        "summary": finding.summary or None,
    }
    return [
        (f"backdoor_{name}", one_line(value, LONGEST_PROPERTY) if isinstance(value, str) else value)
        for name, value in values.items()
        if value is not None
    ]
