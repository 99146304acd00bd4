"""The command ``pytest-backdoor``: what a person does to the lock file; scans are run by pytest."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from . import __version__
from .checks.provenance._lockfile import Artifact, Lock, default_lock_path, read_lock
from .checks.provenance._names import file_name, locate
from .checks.provenance._record import Recorded, new_artifact, record
from .checks.provenance._verify import verify
from .errors import BackdoorScanError, LockError, ModelError, SettingsError
from .models.hub import HUB_PREFIX

OK, DIFFERENT, WRONG = 0, 1, 2
TRUST = "recorded as trust-on-first-use: this is the file you have, not proof of who published it"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0, 1 if a file differs from the lock file, 2 if anything is wrong."""
    arguments = _parser().parse_args(argv)
    lock_path = Path(arguments.lock) if arguments.lock else default_lock_path(Path.cwd())
    try:
        if arguments.action == "add":
            _refuse_in_ci(os.environ, allowed=arguments.allow_ci)
            return _add(lock_path, arguments.paths, update=arguments.update)
        if arguments.action == "check":
            return _check(lock_path, arguments.paths)
        return _list(lock_path)
    except BackdoorScanError as error:
        print(printable(f"error: {error}"), file=sys.stderr)
        return WRONG


def printable(text: str) -> str:
    """``text`` with control characters escaped: a file name must not forge lines of a build log."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pytest-backdoor", description="Keep the lock file of audited models.")
    parser.add_argument("--version", action="version", version=f"pytest-backdoor {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    lock = commands.add_parser("lock", help="list models in models.lock and verify them")
    actions = lock.add_subparsers(dest="action", required=True)
    add = actions.add_parser("add", help="list models as they are now, with size and SHA-256")
    add.add_argument("paths", nargs="+", metavar="PATH", help="model file, or hf://owner/repo@revision/file")
    add.add_argument("--update", action="store_true", help="replace the entry of a file that changed")
    add.add_argument("--allow-ci", action="store_true", help="write even where the variable CI is set")
    check = actions.add_parser("check", help="compare files with models.lock, offline; exit 1 if one differs")
    check.add_argument("paths", nargs="*", metavar="PATH", help="models to compare (default: all that are listed)")
    show = actions.add_parser("list", help="print what models.lock lists")
    for action in (add, check, show):
        action.add_argument(
            "--lock",
            metavar="FILE",
            help="the lock file (default: models.lock in the nearest folder, from here upwards, that has one or a "
            "pyproject.toml or .git; else here)",
        )
    return parser


def _refuse_in_ci(environment: Mapping[str, str], *, allowed: bool) -> None:
    if not allowed and environment.get("CI", "").lower() not in ("", "0", "false"):
        raise SettingsError(
            "The variable CI is set and a build must not approve its own models; run lock add where a person can "
            "review the change, or use --allow-ci."
        )


def _name_and_path(typed: str, lock_path: Path) -> tuple[str, Path]:
    if typed.startswith(HUB_PREFIX):
        return typed, locate(typed, lock_path.parent)
    return file_name(Path(typed), lock_path.parent), Path(typed)


def _add(lock_path: Path, typed: Sequence[str], *, update: bool) -> int:
    named = dict(_name_and_path(path, lock_path) for path in typed)
    # All files are read before anything is written: a bad one leaves the lock file as it was.
    artifacts = [new_artifact(name, path) for name, path in named.items()]
    for result in record(lock_path, artifacts, update=update):
        _print_recorded(result)
    return OK


def _print_recorded(result: Recorded) -> None:
    artifact, previous = result.artifact, result.previous
    for file in (artifact, *artifact.external):
        print(printable(f"{file.path}  sha256 {file.sha256}  {file.size} bytes"))
    if not result.changed:
        print("  listed already, nothing changed")
        return
    if previous is not None:
        for line in _differences(previous, artifact):
            print(printable(f"  {line}"))
    print(f"  {TRUST}")


def _differences(old: Artifact, new: Artifact) -> list[str]:
    """One line per file whose content is not the same in both entries, old → new."""
    before = {file.path: file.sha256 for file in (old, *old.external)}
    after = {file.path: file.sha256 for file in (new, *new.external)}
    lines = [
        f"{path}: {before.get(path, 'not listed')} → {after.get(path, 'not listed')}"
        for path in sorted(before | after)
        if before.get(path) != after.get(path)
    ]
    return lines if old.format == new.format else [*lines, f"format: {old.format} → {new.format}"]


def _check(lock_path: Path, typed: Sequence[str]) -> int:
    lock = read_lock(lock_path)
    if typed:
        names = [_typed_name(path, lock_path) for path in typed]
    else:
        names = [artifact.path for artifact in lock.artifacts]
    if not names:
        raise LockError(
            f"{lock_path} lists no models, so nothing was checked; add one with: pytest-backdoor lock add PATH"
        )
    agree = [_check_one(name, lock) for name in dict.fromkeys(names)]
    return OK if all(agree) else DIFFERENT


def _typed_name(typed: str, lock_path: Path) -> str:
    return typed if typed.startswith(HUB_PREFIX) else file_name(Path(typed), lock_path.parent)


def _check_one(name: str, lock: Lock) -> bool:
    try:
        verification = verify(name, locate(name, lock.folder), lock)
    except ModelError as error:
        reasons: tuple[str, ...] = (str(error),)
    else:
        reasons = verification.problems + verification.undecided
    if not reasons:
        artifact = lock.find(name)
        print(printable(f"ok    {name}  ({artifact.recorded_how if artifact else ''})"))
        return True
    print(printable(f"FAIL  {name}"))
    for reason in reasons:
        print(printable(f"      {reason}"))
    return False


def _list(lock_path: Path) -> int:
    for artifact in read_lock(lock_path).artifacts:
        print(printable(f"{artifact.path}  sha256 {artifact.sha256}  {artifact.size} bytes  {artifact.recorded_how}"))
        for file in artifact.external:
            print(printable(f"  {file.path}  sha256 {file.sha256}  {file.size} bytes"))
    return OK
