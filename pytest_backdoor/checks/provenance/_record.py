"""Adding models to the lock file; only ever done by a person's command, never by a test run."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_backdoor import __version__
from pytest_backdoor.errors import LockError, ModelError
from pytest_backdoor.models._files import MAX_PROTOBUF_BYTES, ModelFiles, SubjectFile, read_model
from pytest_backdoor.models.inspection import inspect, unopened
from pytest_backdoor.rules import RULES

from ._lockfile import Artifact, Lock, LockedFile, read_lock, write_lock
from ._names import sibling_name
from ._sources import default_source
from ._verify import lock_format

PATIENCE_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """An entry that was asked for and the one it replaces, if any; an equal one is left as it was.

    Which version recorded it makes no difference, and neither does asking for nothing but what any file on the disk
    has: who adds a file again without saying where it is from does not want to forget where it is from.
    """

    artifact: Artifact
    previous: Artifact | None

    @property
    def changed(self) -> bool:
        """Whether the entry is new or differs from the previous one."""
        if self.previous is None or not same_files(self.artifact, self.previous):
            return True
        asked, known = _without_tool(self.artifact), _without_tool(self.previous)
        return asked not in (known, _bare(self.artifact.path))


def _bare(name: str) -> dict[str, Any]:
    """What an entry claims about which nobody said anything."""
    return {"source": default_source(name), "recorded": {"how": "trust-on-first-use"}}


def _without_tool(artifact: Artifact) -> dict[str, Any]:
    return dict(artifact.claims) | {"recorded": {"how": artifact.recorded_how}}


def same_files(one: Artifact, other: Artifact) -> bool:
    """Whether two entries describe the same content."""
    return (one.sha256, one.size, one.format, set(one.external)) == (
        other.sha256,
        other.size,
        other.format,
        set(other.external),
    )


def recorded_by(how: str) -> dict[str, str]:
    """The table ``recorded`` of an entry that this version writes."""
    return {"how": how, "tool": f"pytest-backdoor {__version__}"}


def new_artifact(name: str, path: Path) -> Artifact:
    """The entry of the model at ``path`` as it is now, trusted because it is here.

    Raises ModelError if a file cannot be read or is no model, if external data are missing, or if the content breaks a
    rule that nobody may allow.
    """
    read = read_model(path, str(path), keep=MAX_PROTOBUF_BYTES)
    files = read.files
    model = files[0]
    kind = lock_format(model.format)
    if kind is None:
        why = unopened(model.format)
        raise ModelError(f"{path} {why.what}. {why.remedy}")
    if model.malformed:
        raise ModelError(f"{path} cannot be parsed as ONNX, so its external data are not known; fetch it again.")
    for file in files[1:]:
        if file.size is None:
            raise ModelError(f"{file.path}, external data of {path}, does not exist; fetch it too.")
    _refuse_content(read, str(path))
    own = _locked(name, model)
    return Artifact(
        path=name,
        size=own.size,
        sha256=own.sha256,
        format=kind,
        external=tuple(_locked(sibling_name(name, file.location or ""), file) for file in files[1:]),
        claims={"source": default_source(name), "recorded": recorded_by("trust-on-first-use")},
    )


def _refuse_content(read: ModelFiles, display: str) -> None:
    """An entry says that somebody looked at the file, so none is made for one that no scan would open."""
    model = read.files[0]
    inside = [] if model.data is None else inspect(model.format, model.data, display, read.external)
    for problem in (*read.problems, *inside):
        if problem.blocks and not RULES[problem.rule].excusable:
            raise ModelError(f"{problem.message} {problem.remedy}")


def _locked(name: str, file: SubjectFile) -> LockedFile:
    assert file.size is not None  # it was read
    assert file.sha256 is not None
    return LockedFile(path=name, size=file.size, sha256=file.sha256)


def record(lock_path: Path, artifacts: Iterable[Artifact], *, update: bool = False) -> list[Recorded]:
    """Put entries into the lock file, all or none; the file is made if it does not exist.

    ``update``: replace entries that exist. Raises LockError if the lock file is not valid or somebody else keeps
    writing it, or if a different entry exists and ``update`` is not set.
    """
    with _exclusive(lock_path):
        lock = read_lock(lock_path) if os.path.lexists(lock_path) else Lock(path=lock_path)
        results = [Recorded(artifact=artifact, previous=lock.find(artifact.path)) for artifact in artifacts]
        changed = [result for result in results if result.changed]
        if not update:
            for result in changed:
                _refuse_silent_replacement(result, lock_path)
        if changed:
            _write(lock, changed)
    return results


def _write(lock: Lock, changed: Sequence[Recorded]) -> None:
    try:
        write_lock(lock.with_artifacts(result.artifact for result in changed))
    except OSError as error:
        raise LockError(f"{lock.path} cannot be written ({error}); check the folder and its permissions.") from error


def _refuse_silent_replacement(result: Recorded, lock_path: Path) -> None:
    previous = result.previous
    if previous is None:
        return
    same = same_files(previous, result.artifact)
    if same and _without_tool(previous) == _bare(previous.path):
        return  # it said nothing that could get lost
    if same:
        difference = "says something else about it"
    else:
        difference = f"has other content (SHA-256 {previous.sha256}, now {result.artifact.sha256})"
    raise LockError(
        f"{previous.path} is listed in {lock_path} already and the entry {difference}; if the change is intended, "
        "review it and run: pytest-backdoor lock update PATH"
    )


@contextmanager
def _exclusive(lock_path: Path, patience: float = PATIENCE_SECONDS) -> Iterator[None]:
    """Keep other writers out, so that two of them do not lose each other's entries."""
    guard = lock_path.with_name(f".{lock_path.name}.writing")
    deadline = time.monotonic() + patience
    while True:
        try:
            os.close(os.open(guard, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
            break
        except FileExistsError as error:
            if time.monotonic() > deadline:
                raise LockError(
                    f"{guard} says that another process is writing {lock_path.name}; wait for it, or delete that file "
                    "if nothing is running."
                ) from error
            time.sleep(0.02)
        except OSError as error:
            raise LockError(f"{lock_path} cannot be written ({error}); check that its folder exists.") from error
    try:
        yield
    finally:
        guard.unlink(missing_ok=True)
