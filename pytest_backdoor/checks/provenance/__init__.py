"""Is this the file that was published, from where it should come, and safe to open? And the lock file that says so."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from pytest_backdoor.findings import Problem

from ._check import ProvenanceCheck
from ._lockfile import default_lock_path, read_lock
from ._sweep import unlisted_models


def unlisted_in_folder(folder: Path, lock: Path, *, leave_out: Collection[Path] = ()) -> list[Problem]:
    """See ``unlisted_models``; raises LockError as ``read_lock`` does."""
    return unlisted_models(folder, read_lock(lock), leave_out=leave_out)


__all__ = ["ProvenanceCheck", "default_lock_path", "unlisted_in_folder"]
