"""What the process that scans one model may use: memory, processor time, no network, a folder of its own.

The limits are set before the model is touched, and by the process itself: they hold for all it starts, too. The wall
time is watched by the parent.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ._network import NOT_DENIED, control_process, deny_network

_SET_DUMPABLE = 4
# How much more the limit that cannot be caught allows than the one that says what happened.
_GRACE_SECONDS = 5


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What is to be limited.

    ``memory_mb``: MB that the process may allocate, 0 for no limit. ``cpu_seconds``: of all its threads together, 0 for
    no limit. ``directory``: its working directory, which also takes its temporary files. ``device``: as in the
    settings; other devices than the cpu are spoken to through Unix sockets, which then stay allowed.
    """

    memory_mb: int
    cpu_seconds: int
    directory: str
    device: str = "cpu"


@dataclass(frozen=True, kw_only=True)
class Isolation:
    """What was in force while a model was scanned, as reports show it.

    ``memory_mb`` and ``cpu_seconds`` are None where there was no such limit. ``not_set``: in plain words, what was
    asked for but could not be had.
    """

    process: Literal["forked", "spawned", "none"]
    memory_mb: int | None = None
    cpu_seconds: int | None = None
    network: str = NOT_DENIED
    working_directory: Literal["private", "shared"] = "shared"
    not_set: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """The isolation as JSON values."""
        return asdict(self) | {"not_set": list(self.not_set)}


def usable_processors() -> int:
    """How many processors this process may run on at once."""
    affinity = getattr(os, "sched_getaffinity", None)
    return max(1, len(affinity(0)) if affinity else os.cpu_count() or 1)


def processor_seconds(wall_seconds: float | None) -> int:
    """The processor time that all threads can use in ``wall_seconds``, rounded up; 0 for no limit."""
    return 0 if wall_seconds is None else max(1, math.ceil(wall_seconds * usable_processors()))


def limit_this_process(limits: Limits, process: Literal["forked", "spawned"]) -> Isolation:
    """Set all limits that this system has. Call it while the process has one thread. Raises OSError for the folder."""
    os.chdir(limits.directory)
    os.environ["TMPDIR"] = limits.directory
    tempfile.tempdir = None
    # RLIMIT_DATA counts what the process allocates. RLIMIT_AS would count also the libraries that it maps and the
    # address space that CUDA and each thread's heap reserve without using it.
    memory = _set_limit("RLIMIT_DATA", limits.memory_mb * 2**20)
    cpu = _set_limit("RLIMIT_CPU", limits.cpu_seconds, grace=_GRACE_SECONDS)
    _set_limit("RLIMIT_CORE", 0, unlimited=False)
    if sys.platform == "linux":
        # Where core dumps go to a program, their size limit does not count.
        control_process(_SET_DUMPABLE, 0)
    network = deny_network(local_sockets=limits.device != "cpu")
    missing = {
        "memory": bool(limits.memory_mb) and not memory,
        "processor time": bool(limits.cpu_seconds) and not cpu,
        "network": network == NOT_DENIED,
    }
    return Isolation(
        process=process,
        memory_mb=limits.memory_mb if memory else None,
        cpu_seconds=limits.cpu_seconds if cpu else None,
        network=network,
        working_directory="private",
        not_set=tuple(name for name, is_missing in missing.items() if is_missing),
    )


def _set_limit(name: str, value: int, *, grace: int = 0, unlimited: bool = True) -> bool:
    """Set a resource limit; ``unlimited``: 0 means that there is none. Whether it was set."""
    if not value and unlimited:
        return False
    with contextlib.suppress(ImportError, AttributeError, ValueError, OSError):
        import resource

        which = getattr(resource, name)
        _, most = resource.getrlimit(which)
        hard = value + grace if most == resource.RLIM_INFINITY else min(value + grace, most)
        resource.setrlimit(which, (min(value, hard), hard))
        return True
    return False
