"""What changed between two versions of a lock file, and which of it asks for less than before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ._digests import DIGITS, is_strong
from ._exceptions import POLICY_RULES
from ._lockfile import Artifact, Lock


@dataclass(frozen=True, kw_only=True)
class Change:
    """One difference as a sentence; ``weaker``: the new version asks for less of a file that was listed before."""

    text: str
    weaker: bool = False


def lock_changes(before: Lock, after: Lock) -> list[Change]:
    """All differences, sorted by path: entries that came, went or changed, exceptions, signatures and the policy."""
    changes = _policy_changes(before.policy, after.policy)
    old = {artifact.path: artifact for artifact in before.artifacts}
    new = {artifact.path: artifact for artifact in after.artifacts}
    for path in sorted(old | new):
        if path not in new:
            changes.append(Change(text=f"{path} is no longer listed.", weaker=True))
        elif path not in old:
            changes.append(Change(text=f"{path} is new ({new[path].recorded_how}, SHA-256 {new[path].sha256})."))
        else:
            changes.extend(_entry_changes(old[path], new[path]))
    return changes


def _policy_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    changes = []
    for key, relaxed in POLICY_RULES.values():
        old, new = before.get(key, not relaxed), after.get(key, not relaxed)
        if old != new:
            text = f"[policy] {key}: {str(old).lower()} → {str(new).lower()}."
            changes.append(Change(text=text, weaker=new is relaxed))
    return changes


def _entry_changes(old: Artifact, new: Artifact) -> list[Change]:
    path = old.path
    changes = []
    if (old.sha256, old.size) != (new.sha256, new.size):
        changes.append(Change(text=f"{path}: SHA-256 {old.sha256} → {new.sha256}, {old.size} → {new.size} bytes."))
    if set(old.external) != set(new.external):
        changes.append(Change(text=f"{path}: its external data changed."))
    if old.format != new.format:
        changes.append(Change(text=f"{path}: format {old.format} → {new.format}."))
    for key in ("source", "upstream", "signature"):
        before, after = old.claims.get(key), new.claims.get(key)
        if before != after:
            gone = after is None and key != "source"
            words = f"the {key} was removed" if after is None else f"{key} {before or 'none'} → {after}"
            changes.append(Change(text=f"{path}: {words}.", weaker=gone or _downgraded(key, before, after)))
    if old.recorded_how != new.recorded_how:
        weaker = new.recorded_how in ("trust-on-first-use", "unknown")
        changes.append(Change(text=f"{path}: recorded {old.recorded_how} → {new.recorded_how}.", weaker=weaker))
    known = old.claims.get("allow", [])
    changes.extend(
        Change(text=f"{path}: {entry['rule']} is allowed until {entry['until']}: {entry['reason']}", weaker=True)
        for entry in new.claims.get("allow", [])
        if entry not in known
    )
    return changes


def _downgraded(key: str, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> bool:
    if before is None or after is None:
        return False
    if key == "upstream":
        return _strength(after) < _strength(before)
    # Another key, identity or method is not for a machine to rank.
    return key == "signature"


def _strength(upstream: Mapping[str, Any]) -> tuple[bool, int]:
    # Two hashes that identify a file are equally good, whatever their length.
    strong = is_strong(upstream["alg"], upstream["value"])
    return strong, 0 if strong else DIGITS.get(upstream["alg"], len(upstream["value"]))
