"""What all actions of the command line need: the run's circumstances, exit statuses, safe printing, names of models."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path

from ..checks.provenance._claims import claim_problems
from ..checks.provenance._digests import file_digests
from ..checks.provenance._lockfile import Artifact, Lock, read_lock
from ..checks.provenance._names import file_name, locate
from ..checks.provenance._origin import Resolve
from ..checks.provenance._upstream import resolve_upstream
from ..errors import SettingsError
from ..findings import Problem
from ..models.hub import HUB_PREFIX

OK, DIFFERENT, WRONG = 0, 1, 2


@dataclass(frozen=True, kw_only=True)
class Run:
    """One call of the command: what was typed, which lock file, which day, which environment variables."""

    arguments: argparse.Namespace
    lock_path: Path
    today: date
    environment: Mapping[str, str]

    def lock(self) -> Lock:
        """The lock file as it is now; an empty one where there is none yet. Raises LockError as ``read_lock``."""
        return read_lock(self.lock_path) if os.path.lexists(self.lock_path) else Lock(path=self.lock_path)

    def resolve(self, lock: Lock) -> Resolve:
        """Asks the Hub; without TLS only where the lock file's policy allows that."""
        return partial(resolve_upstream, allow_http=lock.policy.get("allow-http", False))

    def problems(self, artifact: Artifact, lock: Lock, path: Path, sha256: str | None) -> list[Problem]:
        """What is wrong with what an entry says about the file at ``path``; raises ModelError if it cannot be read.

        ``sha256``: of that file, None if it was not computed yet.
        """
        endpoint = self.environment.get("HF_ENDPOINT", "")
        return claim_problems(artifact, lock, file_digests(path, sha256), self.today, hub_endpoint=endpoint)


def printable(text: str) -> str:
    """``text`` with control characters escaped: a file name must not forge lines of a build log."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in text
    )


def refuse_in_ci(environment: Mapping[str, str], *, allowed: bool) -> None:
    """Raise SettingsError where the variable CI is set, unless that is ``allowed``."""
    if not allowed and environment.get("CI", "").lower() not in ("", "0", "false"):
        raise SettingsError(
            "The variable CI is set and a build must not approve its own models; run this command where a person can "
            "review the change, or use --allow-ci."
        )


def typed_name(typed: str, lock_path: Path) -> str:
    """How the lock file names what a person typed."""
    return typed if typed.startswith(HUB_PREFIX) else file_name(Path(typed), lock_path.parent)


def name_and_path(typed: str, lock_path: Path) -> tuple[str, Path]:
    """How the lock file names what a person typed, and where that lies."""
    if typed.startswith(HUB_PREFIX):
        return typed, locate(typed, lock_path.parent)
    return file_name(Path(typed), lock_path.parent), Path(typed)


def print_problem(problem: Problem) -> None:
    """Print a problem in one line, after a word that says what it means for the result."""
    if problem.allowed is not None and problem.fails:
        print(printable(f"      allowed ({problem.allowed}): {problem.message}"))
    elif problem.fails:
        print(printable(f"      {problem.rule}: {problem.message} {problem.remedy}"))
    else:
        print(printable(f"      note: {problem.message}"))
