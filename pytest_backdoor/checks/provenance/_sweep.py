"""Finding models that nobody listed, told by their content, and listed files that no scan compares."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

from pytest_backdoor.errors import LockError, ModelError
from pytest_backdoor.findings import Problem
from pytest_backdoor.models._disguise import loadable_as
from pytest_backdoor.models._files import hash_file
from pytest_backdoor.models._format import open_regular
from pytest_backdoor.models.hub import HUB_PREFIX

from ._lockfile import Artifact, Lock, LockedFile
from ._names import file_name

# What some library opens as a model, whether or not it can be audited here.
MODEL_FORMATS = frozenset(
    {"onnx", "safetensors", "torch-zip", "torchscript", "pickle", "hdf5", "keras", "gguf", "ort", "tflite"}
)
# A repository's own files; what is checked out of it is looked at.
SKIPPED_FOLDERS = frozenset({".git"})


def unlisted_models(folder: Path, lock: Lock, *, leave_out: Collection[Path] = ()) -> list[Problem]:
    """The problems of files below ``folder`` that no scan reports, sorted by path.

    One for each file that holds a model and that ``lock`` does not list. Looks at the content of every file (its first
    bytes, where these do not tell its structure, an archive's table of contents), not at names. A file or folder that
    cannot be read, and a link to a folder outside, are problems too, since nobody knows what they hold. The virtual
    environment that runs this is left out. And one for each listed file that is not as listed: a scan collects only
    what pytest enters and what is called like a model. ``leave_out``: absolute paths of models that are reported
    elsewhere.
    """
    top = Path(os.path.abspath(folder))
    compared = [artifact for artifact in lock.artifacts if _is_compared(artifact, top, lock, leave_out)]
    files = {file.path: file for artifact in compared for file in (artifact, *artifact.external)}
    problems = [problem for file in files.values() if (problem := _compared(file, lock))]
    listed = {lock.folder / file.path for artifact in lock.artifacts for file in (artifact, *artifact.external)}
    for path, trouble in _files(top, lock):
        if trouble is not None:
            remedy = "Put files in place of a link, make a folder readable, or move it away."
            problems.append(_unlocked(_shown(path, lock)[0], trouble, remedy))
        elif path not in listed and path not in leave_out and path != lock.path:  # one file, not another of like name
            problems += filter(None, [_problem(path, lock)])
    return sorted(problems, key=lambda problem: problem.path)


def _is_compared(artifact: Artifact, top: Path, lock: Lock, leave_out: Collection[Path]) -> bool:
    path = Path(os.path.abspath(lock.folder / artifact.path))
    return not artifact.path.startswith(HUB_PREFIX) and path.is_relative_to(top) and path not in leave_out


def _compared(file: LockedFile, lock: Lock) -> Problem | None:
    """The problem of a listed file that is not as listed."""
    path = lock.folder / file.path
    get = "If the change is intended, review it and run pytest-backdoor lock update; else get the published file again."
    if not path.exists():
        text = f"{file.path} is listed in {lock.path.name} and does not exist."
        return Problem(rule="missing-file", message=text, remedy=get, path=file.path)
    try:
        sha256, size = hash_file(path)
    except ModelError as error:
        return Problem(rule="unsafe-path", message=str(error), remedy=get, path=file.path)
    if (sha256, size) == (file.sha256, file.size):
        return None
    text = f"{file.path} changed: SHA-256 {sha256} found, {file.sha256} expected."
    return Problem(rule="hash-mismatch", message=text, remedy=get, path=file.path)


def _files(top: Path, lock: Lock) -> Iterator[tuple[Path, str | None]]:
    """Every file, and every folder that is not looked into with the reason why."""
    unread: list[OSError] = []
    inside, environment = os.path.realpath(top), os.path.realpath(sys.prefix)
    for parent, folders, names in os.walk(top, onerror=unread.append):
        kept = []
        for name in sorted(folders):
            path = Path(parent, name)
            real = os.path.realpath(path)
            if name in SKIPPED_FOLDERS or real == environment:
                continue
            if not path.is_symlink():
                kept.append(name)
            elif not Path(real).is_relative_to(inside):
                yield path, f"{_shown(path, lock)[0]} is a link out of the scanned folder and is not looked through."
        folders[:] = kept
        yield from ((Path(parent, name), None) for name in sorted(names))
    for error in unread:
        path = Path(os.fsdecode(error.filename or top))
        yield path, f"{_shown(path, lock)[0]} cannot be read ({error.strerror}), so nobody knows what it holds."


def _shown(path: Path, lock: Lock) -> tuple[str, bool]:
    """What reports call a file, and whether an entry could name it."""
    try:
        return file_name(path, lock.folder), True
    except LockError:
        name = path.as_posix()
        return name if name.isprintable() else ascii(name)[1:-1], False


def _problem(path: Path, lock: Lock) -> Problem | None:
    if not path.is_file():  # a link to nothing, a pipe, a device
        return None
    name, expressible = _shown(path, lock)
    try:
        with open_regular(path) as stream:
            kind = loadable_as(stream)
    except ModelError as error:
        text = str(error) if str(error).isprintable() else f"{name} cannot be read."
        return _unlocked(name, f"{text} So nobody knows whether it is a model.", "Make it readable, or move it away.")
    if kind not in MODEL_FORMATS:
        return None
    add = f"run: pytest-backdoor lock add {name}" if expressible else "move it below the lock file's folder and add it"
    return _unlocked(
        name,
        f"{name} is a model by its content ({kind}), and {lock.path.name} does not list it.",
        f"If it belongs here, review it and {add}; else delete it.",
    )


def _unlocked(name: str, message: str, remedy: str) -> Problem:
    return Problem(rule="unlocked-file", message=message, remedy=remedy, path=name)
