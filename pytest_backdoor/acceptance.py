"""Failed checks that the settings accept: of one file, with a reason and a last day."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import date
from typing import Any

from .findings import Finding, Outcome

PROVENANCE = "provenance"
_SHA256 = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Acceptance:
    """What somebody looked at and takes for a false alarm.

    ``checks``: the names of those that fail. ``sha256``: of the model file and then of its external data, 64
    lower-case hex digits each: another file is not accepted. ``until``: the last day, as YYYY-MM-DD.
    """

    checks: tuple[str, ...]
    sha256: tuple[str, ...]
    reason: str
    until: str


KEYS = tuple(field.name for field in fields(Acceptance))


def read_acceptances(value: Any) -> tuple[Acceptance, ...]:
    """The ``accept`` setting of raw values. Raises ValueError, with a sentence that tells how to write it."""
    if not isinstance(value, list | tuple) or not all(isinstance(entry, Mapping) for entry in value):
        raise ValueError(f"give a list of tables with {', '.join(KEYS)}.")
    return tuple(_read(entry) for entry in value)


def judged(finding: Finding, acceptances: Sequence[Acceptance], digests: Sequence[str | None], today: date) -> Finding:
    """The finding, if it failed with what accepts it, or with why what was meant to does not.

    ``digests``: of the model's files, in the order of ``Acceptance.sha256``; empty for a live network.
    """
    if finding.outcome is not Outcome.FAILED:
        return finding
    meant = [one for one in acceptances if finding.check in one.checks]
    objections = {one: _objection(one, finding.check, digests, today) for one in meant}
    valid = next((one for one in meant if not objections[one]), None)
    if valid is not None:
        return replace(finding, accepted=f"until {valid.until}: {valid.reason}")
    # Of several files that match one pattern each has an entry of its own.
    return replace(finding, remedy=" ".join([*dict.fromkeys(objections.values()), finding.remedy]).strip())


def _objection(one: Acceptance, check: str, digests: Sequence[str | None], today: date) -> str:
    """Why an acceptance does not hold; empty if it does."""
    if not digests or tuple(digests) != one.sha256:
        known = ", ".join(digest or "a file that cannot be read" for digest in digests) or "no file"
        return f"The settings accept {check} of another file; this is {known}."
    if date.fromisoformat(one.until) < today:
        return f"The settings accepted {check} until {one.until} and no longer: review it."
    return ""


def _read(entry: Mapping[str, Any]) -> Acceptance:
    unknown = [name for name in entry if name not in KEYS]
    missing = [name for name in KEYS if name not in entry]
    if unknown or missing:
        wrong = f"{unknown[0]!r} is not known" if unknown else f"{missing[0]!r} is missing"
        raise ValueError(f"{wrong}; each entry has {', '.join(KEYS)}.")
    checks = tuple(_names(entry["checks"]))
    if PROVENANCE in checks:
        raise ValueError("rules of provenance are allowed in the lock file: pytest-backdoor lock add --allow.")
    return Acceptance(
        checks=checks,
        sha256=tuple(_digests(entry["sha256"])),
        reason=_line(entry["reason"], "reason"),
        until=_day(entry["until"]),
    )


def _names(value: Any) -> Iterator[str]:
    values = value.split(",") if isinstance(value, str) else value
    if not isinstance(values, list | tuple) or not values:
        raise ValueError("give checks as a list of names.")
    return (_line(name, "each of checks") for name in values)


def _line(value: Any, name: str) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise ValueError(f"give {name} as one line of text.")
    return value.strip()


def _digests(value: Any) -> Iterator[str]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list | tuple) or not values:
        raise ValueError("give sha256 as the report tells it, 64 hexadecimal digits.")
    for digest in values:
        if not isinstance(digest, str) or not _SHA256.fullmatch(digest.lower()):
            raise ValueError(f"{digest!r} is no SHA-256; give the 64 hexadecimal digits that the report tells.")
        yield digest.lower()


def _day(value: Any) -> str:
    # TOML has dates of its own, which a report or a child process cannot hold.
    text = value.isoformat() if type(value) is date else value
    try:
        return date.fromisoformat(text).isoformat()
    except (TypeError, ValueError):
        raise ValueError(f"until = {value!r} is no day; write it as 2027-01-31.") from None
