"""What the terminal says beside each check's own explanation."""

from __future__ import annotations

from pytest_backdoor.findings import Finding, ModelReport, Outcome
from pytest_backdoor.report import reasons, summary_table


def not_assessed(check, summary):
    return Finding(
        check=check,
        outcome=Outcome.NOT_ASSESSED,
        summary=summary,
        behavioural=check != "provenance",
        remedy="Build one.",
    )


FINDINGS = (
    not_assessed("provenance", "There is no lock file."),
    not_assessed("litmus", "No detector pack fits."),
    not_assessed("reversal", "No detector pack fits."),
)


def test_a_reason_that_checks_share_is_told_once():
    assert reasons(FINDINGS) == [
        "provenance: There is no lock file. Build one.",
        "litmus, reversal: No detector pack fits. Build one.",
    ]


def test_the_table_tells_each_reason_once():
    text = "\n".join(summary_table([ModelReport(path="a.onnx", findings=FINDINGS)]))
    assert text.count("No detector pack fits.") == 1
    assert "litmus not assessed, reversal not assessed" in text
