"""Comparing a model's files with what the lock file lists; used by the check and by the command line alike."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pytest_backdoor.findings import Problem
from pytest_backdoor.models._files import SubjectFile, subject_files

from ._lockfile import Artifact, Lock, LockedFile
from ._names import sibling_name

# Two torch formats, one name: both hold the same thing and torch.save chooses between them.
LOCK_FORMATS = {"onnx": "onnx", "safetensors": "safetensors", "torch-zip": "torch", "pickle": "torch"}


@dataclass(frozen=True, kw_only=True)
class FileState:
    """One file of the model or of its entry, what was found and what was expected.

    ``status``: ``ok``, ``changed``, ``missing`` (there is no such file), ``not-listed`` (the entry does not name it) or
    ``not-named`` (the entry does, the model does not). ``sha256`` is None if there is no such file.
    """

    path: str
    status: str
    size: int | None = None
    sha256: str | None = None
    expected_size: int | None = None
    expected_sha256: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The state as JSON values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Verification:
    """How a model compares with its entry.

    ``name``: what the lock file calls it. ``problems``: what differs; none: it is the file that was listed.
    ``artifact``: its entry, None if it has none.
    """

    name: str
    files: tuple[FileState, ...]
    problems: tuple[Problem, ...] = ()
    artifact: Artifact | None = None


def lock_format(sniffed: str | None) -> str | None:
    """The name that the lock file has for a sniffed format; None if it takes no such files."""
    return LOCK_FORMATS.get(sniffed or "")


def file_states(name: str, files: Sequence[SubjectFile]) -> tuple[FileState, ...]:
    """The files of a model that no entry describes."""
    return tuple(_state(_file_name(name, file), file, None) for file in files)


def verify(
    name: str, path: Path, lock: Lock, files: Sequence[SubjectFile] | None = None, *, display: str | None = None
) -> Verification:
    """Compare the model at ``path``, which the lock calls ``name``, with its entry.

    ``files``: what was read of it; None: it is read here, without keeping any content. ``display``: how reports name
    it, if not as the lock file does. Raises ModelError if a file cannot be read, ExternalDataError if the model names
    external data it must not name.
    """
    files = subject_files(path) if files is None else files
    artifact = lock.find(name)
    if artifact is None:
        problem = not_listed(display or name, lock.path.name)
        return Verification(name=name, files=file_states(name, files), problems=(problem,))
    states = (_state(name, files[0], artifact), *_external_states(artifact, files[1:], malformed=files[0].malformed))
    problems = [_problem(display or name, name, state) for state in states if state.status != "ok"]
    problems += _format_problems(artifact, files[0], display or name)
    return Verification(name=name, files=states, problems=tuple(problems), artifact=artifact)


def not_listed(display: str, lock_name: str, why: str = "") -> Problem:
    """The problem of a model without an entry; ``why``: what keeps it from having one, as sentences."""
    return Problem(
        rule="unlocked-file",
        message=f"{display} is not listed in {lock_name}{f': {why}' if why else '.'}",
        remedy=f"If you trust this file, review it and run: {_command('add', display)}; else get the published file.",
        path=display,
    )


def _format_problems(artifact: Artifact, model: SubjectFile, display: str) -> Iterator[Problem]:
    found = lock_format(model.format)
    if found != artifact.format:
        yield Problem(
            rule="format-changed",
            message=f"The format of {display} is {model.format or 'unknown'}, expected {artifact.format}.",
            remedy=_if_intended(display),
            path=display,
        )
    if model.malformed:
        yield Problem(
            rule="malformed-file",
            message=f"{display} cannot be parsed as ONNX, so its external data are not known.",
            remedy="Get the published file again.",
            path=display,
        )


def _external_states(artifact: Artifact, found: Sequence[SubjectFile], *, malformed: bool) -> tuple[FileState, ...]:
    listed = {file.path: file for file in artifact.external}
    named = {_file_name(artifact.path, file): file for file in found}
    states = [_state(name, file, listed.get(name)) for name, file in named.items()]
    if not malformed:  # what a file names that cannot be parsed is not known
        gone = (file for name, file in listed.items() if name not in named)
        states.extend(
            FileState(path=file.path, status="not-named", expected_size=file.size, expected_sha256=file.sha256)
            for file in gone
        )
    return tuple(states)


def _file_name(name: str, file: SubjectFile) -> str:
    return name if file.location is None else sibling_name(name, file.location)


def _state(name: str, file: SubjectFile, expected: LockedFile | None) -> FileState:
    """Compare one file."""
    sha256, size = file.sha256, file.size
    if size is None:
        status = "missing"
    elif expected is None:
        status = "not-listed"
    else:
        status = "ok" if (size, sha256) == (expected.size, expected.sha256) else "changed"
    return FileState(
        path=name,
        status=status,
        size=size,
        sha256=sha256,
        expected_size=expected.size if expected else None,
        expected_sha256=expected.sha256 if expected else None,
    )


RULE_OF_STATUS = {
    "missing": "missing-file",
    "not-listed": "unlocked-file",
    "not-named": "missing-file",
    "changed": "hash-mismatch",
}


def _problem(display: str, name: str, state: FileState) -> Problem:
    """What is wrong with a file that is not as listed."""
    own = state.path == name
    subject = display if own else f"{state.path}, external data of {display},"
    return Problem(
        rule=RULE_OF_STATUS[state.status],
        message=f"{subject} {_difference(state)}",
        remedy=_if_intended(display),
        path=display if own else state.path,
    )


def _difference(state: FileState) -> str:
    if state.status == "missing":
        return "does not exist."
    if state.status == "not-listed":
        return "is not listed in the model's entry."
    if state.status == "not-named":
        return "is listed in the model's entry, but the model no longer names it."
    if state.size != state.expected_size:
        return f"changed: {state.size} bytes found, {state.expected_size} bytes expected."
    return f"changed: SHA-256 {state.sha256} found, {state.expected_sha256} expected."


def _if_intended(display: str) -> str:
    return (
        f"If the change is intended, review it and run: {_command('update', display)}; else get the published file "
        "again."
    )


def _command(action: str, display: str) -> str:
    return f"pytest-backdoor lock {action} {shlex.quote(display)}"
