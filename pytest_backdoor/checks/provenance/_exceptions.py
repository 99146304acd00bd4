"""Rules that an entry of the lock file, or its policy, allows to be broken."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import date

from pytest_backdoor.findings import Problem
from pytest_backdoor.rules import RULES

from ._lockfile import Artifact, Lock

# Which key of [policy] switches which rule off, and to which value.
POLICY_RULES = {
    "no-hash-listed": ("require-hashes", False),
    "plain-http": ("allow-http", True),
    "unpinned-revision": ("require-pinned-revision", False),
}


def excused(problems: Iterable[Problem], artifact: Artifact, lock: Lock, today: date) -> list[Problem]:
    """The problems, those that the entry or the policy allows with what allows them; an expired exception does not.

    Only rules that are excusable can be allowed, whatever the entry says.
    """
    reasons = _reasons(artifact, lock, today)
    return [
        replace(problem, allowed=reasons[problem.rule])
        if problem.blocks and problem.rule in reasons and RULES[problem.rule].excusable
        else problem
        for problem in problems
    ]


def expired_exceptions(artifact: Artifact, today: date, display: str) -> list[Problem]:
    """One problem for each exception of the entry whose last day has passed."""
    return [
        Problem(
            rule="exception-expired",
            message=f"{display} was allowed to break the rule {entry['rule']} until {entry['until']} and no longer.",
            remedy="Mend the cause and remove the exception, or review it and set another date.",
            path=display,
        )
        for entry in artifact.claims.get("allow", [])
        if date.fromisoformat(entry["until"]) < today
    ]


def _reasons(artifact: Artifact, lock: Lock, today: date) -> Mapping[str, str]:
    reasons = {
        rule: f"[policy] {key} = {str(value).lower()}"
        for rule, (key, value) in POLICY_RULES.items()
        if lock.policy.get(key, not value) is value
    }
    for entry in artifact.claims.get("allow", []):
        if date.fromisoformat(entry["until"]) >= today:
            reasons[entry["rule"]] = f"until {entry['until']}: {entry['reason']}"
    return reasons
