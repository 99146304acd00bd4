"""SARIF 2.1.0, as GitHub's code scanning takes it.

There is no ``automationDetails``: where it is missing, the upload names the run after its category or job, so that
several jobs of one workflow do not replace each other's alerts.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..findings import Finding, ModelReport, Outcome, ScanReport, Verdict
from ._check_view import target_of
from ._evidence import Evidence
from ._json import encoded
from ._locations import Listing, Locator, Place
from ._sarif_rules import Alert, alerts, rules_of
from ._strings import visible
from ._words import VERDICTS

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
# GitHub keeps the first 5,000 results of a run and takes no more than 25,000.
MOST_RESULTS = 5000
_SHA256 = re.compile("[0-9a-f]{64}")


def render_sarif(report: ScanReport, *, root: Path, listings: Sequence[Path] = ()) -> bytes:
    """``report`` as a SARIF log of one run; ``root`` and ``listings`` as in ``write_report``.

    What must be acted on is a result, at the line that lists its model. What could not be assessed or scanned is a
    notification of the tool, and so are failures that the settings accept and rules that the lock file allows to be
    broken. All findings, the passed ones included, are in the properties of the models' artifacts.
    """
    from .. import __version__

    locator = Locator(root=root, listings=[Listing(path) for path in listings])
    found = alerts(report.models)[:MOST_RESULTS]
    rules = rules_of(found)
    numbers = {rule["id"]: number for number, rule in enumerate(rules)}
    run = {
        "tool": {
            "driver": {
                "name": "pytest-backdoor",
                "version": __version__,
                "semanticVersion": __version__,
                "rules": rules,
            }
        },
        "columnKind": "unicodeCodePoints",
        "invocations": [_invocation(report)],
        "artifacts": [_artifact(model, locator) for model in report.models],
        "results": [_result(alert, numbers[alert.rule], locator) for alert in found],
        "properties": {"verdict": report.verdict.value, "settings": dict(report.settings)},
    }
    return encoded({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]})


def message(text: str) -> dict[str, str]:
    """A message of plain text, in which nothing is a link or a placeholder."""
    text = visible(text) or "No message was given."
    # Brackets make links and braces with a number placeholders (SARIF 2.1.0, §3.11.5 and §3.11.6).
    return {"text": re.sub(r"([\\\[\]])", r"\\\1", re.sub(r"\{(\d+)\}", r"{{\1}}", text))}


def _result(alert: Alert, number: int, locator: Locator) -> dict[str, Any]:
    finding, problem = alert.finding, alert.problem
    text = f"{problem.message} {problem.remedy}" if problem else f"{finding.summary} {finding.remedy}"
    names = dict.fromkeys(filter(None, (problem.path if problem else None, alert.model.path)))
    evidence = Evidence(finding.evidence)
    properties = {
        "model": alert.model.path,
        "sha256": alert.model.sha256,
        "score": finding.score,
        "threshold": evidence.part("reference").number("threshold"),
        "p_value": finding.p_value,
        "target": target_of(finding),
        "command": alert.model.command,
    }
    return {
        "ruleId": alert.rule,
        "ruleIndex": number,
        "level": "error",
        "message": message(f"{alert.model.path}: {text}".strip()),
        "locations": [_location(locator.find(*names))],
        "partialFingerprints": {"primaryLocationLineHash": _fingerprint(alert)},
        "properties": {name: value for name, value in properties.items() if value is not None},
    }


def _location(place: Place) -> dict[str, Any]:
    region = {"startLine": place.line, "startColumn": 1, "endLine": place.line, "endColumn": place.length + 1}
    return {"physicalLocation": {"artifactLocation": {"uri": place.uri}, "region": region}}


def _fingerprint(alert: Alert) -> str:
    """The same for the same finding on the same model in the next run, whatever line lists it."""
    about = alert.problem.path if alert.problem else target_of(alert.finding) or ""
    parts = "\0".join((alert.rule, alert.model.path, about))
    return f"{hashlib.sha256(parts.encode(errors='surrogatepass')).hexdigest()[:16]}:1"


def _invocation(report: ScanReport) -> dict[str, Any]:
    failed = any(model.verdict is Verdict.ERROR for model in report.models)
    notifications = [entry for model in report.models for entry in _notifications(model)]
    return {"executionSuccessful": not failed, "toolExecutionNotifications": notifications}


def _notifications(model: ModelReport) -> Iterable[dict[str, Any]]:
    """What was not assessed or is accepted or allowed, and that a model is not verified."""
    if model.verdict is Verdict.UNVERIFIED:
        reason = VERDICTS[model.verdict] if model.findings else "The run ended before it was reached."
        yield _notification("note" if model.accepted else "error", "unverified", f"{model.path}: {reason}")
    for finding in model.findings:
        if finding.outcome in (Outcome.ERROR, Outcome.NOT_ASSESSED):
            level = "error" if finding.outcome is Outcome.ERROR else "warning"
            text = f"{model.path}: {finding.check}: {finding.summary} {finding.remedy}".strip()
            yield _notification(level, f"{finding.check}/{finding.outcome.value}", text)
        if finding.accepted is not None:
            text = f"{model.path}: {finding.check}: {finding.summary} Accepted {finding.accepted}"
            yield _notification("note", f"{finding.check}/accepted", text)
        for problem in finding.problems:
            if not problem.blocks:
                allowed = f" Allowed: {problem.allowed}." if problem.allowed else ""
                yield _notification("note", f"{finding.check}/{problem.rule}", f"{problem.message}{allowed}")


def _notification(level: str, name: str, text: str) -> dict[str, Any]:
    return {"level": level, "descriptor": {"id": name}, "message": message(text)}


def _artifact(model: ModelReport, locator: Locator) -> dict[str, Any]:
    uri = None if "://" in model.path else locator.uri(locator.root / model.path)
    known = model.sha256 is not None and _SHA256.fullmatch(model.sha256)
    return {
        **({"location": {"uri": uri}} if uri else {}),
        "description": message(model.path),
        **({"length": model.size} if model.size is not None else {}),
        **({"hashes": {"sha-256": model.sha256}} if known else {}),
        "properties": {
            "path": model.path,
            "verdict": model.verdict.value,
            "checks": [_summary(finding) for finding in model.findings],
        },
    }


def _summary(finding: Finding) -> dict[str, Any]:
    values = {
        "check": finding.check,
        "outcome": finding.outcome.value,
        "score": finding.score,
        "p_value": finding.p_value,
        "accepted": finding.accepted,
    }
    return {name: value for name, value in values.items() if value is not None}
