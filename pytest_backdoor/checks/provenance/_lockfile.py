"""The lock file: which model files a project uses, each with size, SHA-256 and format."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pytest_backdoor.errors import LockError, ModelError
from pytest_backdoor.files import write_atomically
from pytest_backdoor.models._format import open_regular

from ._schema import VERSION, check_lock
from ._tables import InvalidLockError

LOCK_NAME = "models.lock"
MAX_BYTES = 8_000_000
HEADER = """\
# Which model files this project uses. Written by `pytest-backdoor lock add`; review every change like code.
"""


@dataclass(frozen=True, kw_only=True)
class LockedFile:
    """A file as the lock file lists it; ``path`` is the name in the lock file."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Artifact(LockedFile):
    """A model as the lock file lists it.

    ``claims``: the tables ``source``, ``upstream``, ``recorded``, ``signature`` and ``allow``, as far as the entry has
    them, in the shape they have in the file.
    """

    format: str
    external: tuple[LockedFile, ...] = ()
    claims: Mapping[str, Any] = field(default_factory=dict)

    @property
    def recorded_how(self) -> str:
        """What vouched for the file when it was listed; "unknown" if the entry does not say."""
        return str(self.claims.get("recorded", {}).get("how", "unknown"))


@dataclass(frozen=True, kw_only=True)
class Lock:
    """The content of the lock file at ``path``."""

    path: Path
    artifacts: tuple[Artifact, ...] = ()
    policy: Mapping[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """The folder that the listed paths are relative to."""
        return self.path.parent

    def find(self, path: str) -> Artifact | None:
        """The entry of the model that the lock file calls ``path``, exactly as written."""
        return next((artifact for artifact in self.artifacts if artifact.path == path), None)

    def with_artifacts(self, artifacts: Iterable[Artifact]) -> Lock:
        """This lock with entries added, or replaced where the path is listed already."""
        merged = {artifact.path: artifact for artifact in (*self.artifacts, *artifacts)}
        return replace(self, artifacts=tuple(merged[path] for path in sorted(merged)))


def default_lock_path(start: Path) -> Path:
    """The lock file of the project around the folder ``start``, which need not exist.

    ``models.lock`` in the nearest folder, from ``start`` upwards, that holds one, a ``pyproject.toml`` or a ``.git``;
    else in ``start``.
    """
    for folder in (start, *start.parents):
        if any((folder / mark).exists() for mark in (LOCK_NAME, "pyproject.toml", ".git")):
            return folder / LOCK_NAME
    return start / LOCK_NAME


def read_lock(path: Path) -> Lock:
    """Read and check a lock file.

    Raises LockError if it does not exist or if anything in it is wrong or unknown: nothing is skipped.
    """
    if not path.exists():
        raise LockError(f"The lock file {path} does not exist; make it with: pytest-backdoor lock add PATH")
    try:
        with open_regular(path) as stream:
            content = stream.read(MAX_BYTES + 1)
    except ModelError as error:
        raise LockError(f"The lock file cannot be read: {error}") from error
    return parse_lock(content, path)


def parse_lock(content: bytes, path: Path) -> Lock:
    """The lock that ``content`` describes; ``path`` says where the file lies. Raises LockError as ``read_lock``."""
    try:
        if len(content) > MAX_BYTES:
            raise InvalidLockError(f"it is larger than {MAX_BYTES} bytes")
        data = _toml(content)
        check_lock(data)
    except InvalidLockError as error:
        raise LockError(
            f"The lock file {path} is not valid: {error}. Correct it or restore the version you reviewed."
        ) from error
    artifacts = tuple(_artifact(table) for table in data.get("artifact", []))
    return Lock(path=path, policy=data.get("policy", {})).with_artifacts(artifacts)


def _toml(content: bytes) -> dict[str, Any]:
    try:
        return tomllib.loads(content.decode("utf-8"))
    except RecursionError as error:
        raise InvalidLockError("it is nested too deeply") from error
    except ValueError as error:  # bad UTF-8, bad TOML, numbers and dates out of range
        raise InvalidLockError(f"it is not TOML ({error})") from error


def _artifact(table: Mapping[str, Any]) -> Artifact:
    own = {"path", "size", "sha256", "format"}
    return Artifact(
        **{key: table[key] for key in own},
        external=tuple(LockedFile(**file) for file in table.get("external", [])),
        claims={key: value for key, value in table.items() if key not in own | {"external"}},
    )


def write_lock(lock: Lock) -> None:
    """Write the lock file in its one canonical form: sorted by path, LF, one table per model.

    Raises LockError if the result would not be a valid lock file, OSError if it cannot be written; the old file stays
    as it was then.
    """
    content = dump_lock(lock)
    parse_lock(content, lock.path)
    write_atomically(lock.path, content)


def dump_lock(lock: Lock) -> bytes:
    """The canonical content of the lock file."""
    import tomli_w

    data: dict[str, Any] = {"lock-version": VERSION}
    if lock.policy:
        data["policy"] = dict(lock.policy)
    data["artifact"] = [_table(artifact) for artifact in sorted(lock.artifacts, key=lambda artifact: artifact.path)]
    if not data["artifact"]:
        del data["artifact"]
    return (HEADER + tomli_w.dumps(data)).encode()


def _table(artifact: Artifact) -> dict[str, Any]:
    table: dict[str, Any] = _file_table(artifact) | {"format": artifact.format}
    if artifact.external:
        files = sorted(artifact.external, key=lambda file: file.path)
        table["external"] = [_file_table(file) for file in files]
    order = ("source", "upstream", "recorded", "signature", "allow")
    return table | {key: artifact.claims[key] for key in order if key in artifact.claims}


def _file_table(file: LockedFile) -> dict[str, Any]:
    return {"path": file.path, "size": file.size, "sha256": file.sha256}
