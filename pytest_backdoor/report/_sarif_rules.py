"""What SARIF calls rules: one for each check of behaviour, and one for each rule that a file must keep."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..findings import Finding, ModelReport, Outcome, Problem
from ..rules import RULES
from ._strings import one_line
from ._words import FAILURES

DOCS = "docs/usage.md"
PROVENANCE_DOCS = "docs/provenance.md"
MOST_DESCRIPTION = 1024
# As GitHub orders alerts: above 9.0 is critical, from 7.0 high, from 4.0 medium.
CRITICAL, HIGH, MEDIUM = "9.3", "8.1", "6.0"
GRAVE = {"hash-mismatch", "signature-wrong-identity", "source-collision"}


@dataclass(frozen=True, kw_only=True)
class Alert:
    """One thing that must be acted on. ``rule``: its SARIF rule; ``problem``: the rule of a file that is broken."""

    rule: str
    model: ModelReport
    finding: Finding
    problem: Problem | None


def alerts(models: Iterable[ModelReport]) -> list[Alert]:
    """All of a run: a failed check that nothing accepts is one, or one for each rule that keeps it from passing."""
    found = []
    for model in models:
        for finding in model.findings:
            if finding.outcome is not Outcome.FAILED or not finding.blocks:
                continue
            blocking: list[Problem | None] = [problem for problem in finding.problems if problem.blocks]
            for problem in blocking or [None]:
                rule = f"{finding.check}/{problem.rule}" if problem else finding.check
                found.append(Alert(rule=rule, model=model, finding=finding, problem=problem))
    return found


def rules_of(found: Iterable[Alert]) -> list[dict[str, Any]]:
    """The descriptions of the rules of these alerts, each once, by name."""
    first = {alert.rule: alert for alert in reversed(list(found))}
    return [_rule(name, first[name]) for name in sorted(first)]


def _rule(name: str, alert: Alert) -> dict[str, Any]:
    short, full, help_text, severity, precision = _of_file(alert.problem) if alert.problem else _of_check(alert.finding)
    return {
        "id": name,
        "name": "".join(part.capitalize() for part in name.replace("/", "-").split("-")),
        "shortDescription": {"text": short},
        "fullDescription": {"text": full[:MOST_DESCRIPTION]},
        "help": {"text": help_text, "markdown": help_text},
        "defaultConfiguration": {"level": "error"},
        "properties": {
            "tags": ["security", "machine-learning", "backdoor"],
            "precision": precision,
            "security-severity": severity,
        },
    }


def _of_file(problem: Problem) -> tuple[str, str, str, str, str]:
    rule = RULES[problem.rule]
    severity = CRITICAL if rule.refuses or problem.rule in GRAVE else MEDIUM if rule.excusable else HIGH
    full = f"{rule.title}. A model file must keep this rule before it is trusted or opened."
    return rule.title, full, f"What the rule means and how to mend it: {PROVENANCE_DOCS}.", severity, "very-high"


def _of_check(finding: Finding) -> tuple[str, str, str, str, str]:
    title = FAILURES.get(finding.check, f"The check {one_line(finding.check, 100)} failed")
    full = (
        f"{title}. The score was compared with those of clean reference models; at the gate's false-positive rate it "
        "is too high for a clean model."
        if finding.p_value is not None
        else f"{title}."
    )
    help_text = (
        f"{title}. Do not deploy the model before that is explained. The HTML report (--backdoor-report scan.html) "
        f"shows what was found, how sure that is and what was not checked. How the check works: {DOCS}."
    )
    # A statistical test is wrong at a known rate; GitHub orders alerts by this.
    return title, full, help_text, HIGH, "medium"
