"""``lock list``."""

from __future__ import annotations

from ..checks.provenance._lockfile import read_lock
from ..checks.provenance._sources import source_of
from ._shared import OK, Run, printable


def list_entries(run: Run) -> int:
    """Print what the lock file lists, and where each model is from."""
    for artifact in read_lock(run.lock_path).artifacts:
        print(printable(f"{artifact.path}  sha256 {artifact.sha256}  {artifact.size} bytes  {artifact.recorded_how}"))
        source = source_of(artifact)
        if source["type"] != "local":
            print(printable("  from " + ", ".join(f"{key} {value}" for key, value in source.items())))
        for file in artifact.external:
            print(printable(f"  {file.path}  sha256 {file.sha256}  {file.size} bytes"))
    return OK
