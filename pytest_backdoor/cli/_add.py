"""``lock add`` and ``lock update``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..checks.provenance._digests import file_digests, hash_matches
from ..checks.provenance._lockfile import Artifact
from ..checks.provenance._origin import Statement, with_origin
from ..checks.provenance._record import Recorded, new_artifact, record
from ..checks.provenance._sources import name_source, source_of
from ..checks.provenance._verify import verify
from ..errors import LockError, SettingsError
from ._shared import OK, Run, name_and_path, print_problem, printable
from ._statement import typed_exceptions, typed_signature, typed_source, typed_upstream

TRUST = "recorded as trust-on-first-use: this is the file you have, not proof of who published it"


def add(run: Run) -> int:
    """List models as they are now, all or none of those that are named."""
    arguments = run.arguments
    if len(set(arguments.paths)) > 1 and (arguments.source or arguments.published_hash or arguments.signature):
        raise SettingsError("--from, --published-hash and --signature are about one file; name one PATH with them.")
    named = dict(name_and_path(path, run.lock_path) for path in arguments.paths)
    # All files are read before anything is written: a bad one leaves the lock file as it was.
    resolve = run.resolve(run.lock())
    entries = [
        (with_origin(new_artifact(name, path), path, _statement(run, name), resolve), path)
        for name, path in named.items()
    ]
    return write(run, entries)


def _statement(run: Run, name: str) -> Statement:
    arguments = run.arguments
    source = typed_source(arguments) or name_source(name)
    return Statement(
        source=source,
        upstream=typed_upstream(arguments),
        signature=typed_signature(arguments, run.lock_path),
        allow=typed_exceptions(arguments),
        trust=arguments.trust_on_first_use or source is None,
    )


def update(run: Run) -> int:
    """Replace the entry of one model by what it is now; what the entry asks for beside that stays."""
    name, path = name_and_path(run.arguments.paths[0], run.lock_path)
    lock = run.lock()
    previous = lock.find(name)
    if previous is None:
        raise LockError(f"{name} is not listed in {run.lock_path}; list it with: pytest-backdoor lock add PATH")
    artifact = new_artifact(name, path)
    statement = _updated(run, previous, path)
    return write(run, [(with_origin(artifact, path, statement, run.resolve(lock)), path)], update=True)


def _updated(run: Run, previous: Artifact, path: Path) -> Statement:
    arguments = run.arguments
    source = typed_source(arguments) or _asked_for(previous)
    upstream = typed_upstream(arguments)
    known = previous.claims.get("upstream")
    if upstream is None and known and not arguments.source and source["type"] != "hf":
        # A hash of the old content says nothing about another one.
        upstream = known if hash_matches(known["alg"], known["value"], file_digests(path)) else None
    allow = {entry["rule"]: entry for entry in (*previous.claims.get("allow", []), *typed_exceptions(arguments))}
    return Statement(
        source=source,
        upstream=upstream,
        signature=typed_signature(arguments, run.lock_path) or previous.claims.get("signature"),
        allow=tuple(allow[rule] for rule in sorted(allow)),
        trust=arguments.trust_on_first_use or (source["type"] == "local" and known is None),
    )


def _asked_for(previous: Artifact) -> dict[str, Any]:
    """The source of an entry; of one on the Hub, what was asked for when it was recorded."""
    source = dict(source_of(previous))
    if "requested" in source:
        source["revision"] = source.pop("requested")
    return source


def write(run: Run, entries: list[tuple[Artifact, Path]], *, update: bool = False) -> int:
    """Write entries, each with the path of its file, and print what was recorded and what is wrong with it."""
    results = record(run.lock_path, [artifact for artifact, _ in entries], update=update)
    lock = run.lock()
    for result, (_, path) in zip(results, entries, strict=True):
        print_recorded(result)
        for problem in run.problems(verify(result.artifact.path, path, lock), lock, path):
            if problem.fails:
                print_problem(problem)
    return OK


def print_recorded(result: Recorded) -> None:
    """Print an entry that was asked for and what it changed."""
    artifact, previous = result.artifact, result.previous
    for file in (artifact, *artifact.external):
        print(printable(f"{file.path}  sha256 {file.sha256}  {file.size} bytes"))
    if not result.changed:
        print("  listed already, nothing changed")
        return
    if previous is not None:
        for line in _differences(previous, artifact):
            print(printable(f"  {line}"))
    if artifact.recorded_how == "trust-on-first-use":
        print(f"  {TRUST}")
    elif artifact.recorded_how == "signature":
        print("  nobody published a hash; the signature vouches for the file and is verified by each check")
    else:
        upstream = artifact.claims["upstream"]
        print(printable(f"  has the published {upstream['alg']} {upstream['value']} (from {upstream['from']})"))


def _differences(old: Artifact, new: Artifact) -> list[str]:
    """One line per fact that is not the same in both entries, old → new."""
    before = {file.path: file for file in (old, *old.external)}
    after = {file.path: file for file in (new, *new.external)}
    lines = []
    for path in sorted(before | after):
        one, other = before.get(path), after.get(path)
        if one != other and (one is None or other is None or one.sha256 != other.sha256):
            lines.append(f"{path}: {one.sha256 if one else 'not listed'} → {other.sha256 if other else 'not listed'}")
            lines.append(f"{path}: {one.size if one else 0} → {other.size if other else 0} bytes")
    if old.format != new.format:
        lines.append(f"format: {old.format} → {new.format}")
    commits = [source_of(entry).get("revision", "none") for entry in (old, new)]
    if commits[0] != commits[1]:
        lines.append(f"commit: {commits[0]} → {commits[1]}")
    return lines
