"""Finding models that nobody listed: told by their content, whatever they are called."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from pathlib import Path

from pytest_backdoor.errors import LockError, ModelError
from pytest_backdoor.findings import Problem
from pytest_backdoor.models._format import sniff_format

from ._lockfile import Lock
from ._names import file_name

MODEL_FORMATS = frozenset(
    {"onnx", "ort", "safetensors", "torch-zip", "torchscript", "pickle", "hdf5", "keras", "gguf", "tflite"}
)
# A repository's own files; what is checked out of it is looked at.
SKIPPED_FOLDERS = frozenset({".git", "__pycache__"})
# What is installed belongs to packages, which ship models for their own tests.
ENVIRONMENT_MARK = "pyvenv.cfg"


def unlisted_models(folder: Path, lock: Lock, *, leave_out: Collection[Path] = ()) -> list[Problem]:
    """A problem for each file below ``folder`` that holds a model and that ``lock`` does not list, sorted by path.

    Looks at the first bytes of every file (and an archive's table of contents), not at names. Links to folders and
    virtual environments are not followed; a file that cannot be read is a problem too, since nobody knows what it
    holds. ``leave_out``: absolute paths of files that are reported elsewhere.
    """
    listed = {file.path for artifact in lock.artifacts for file in (artifact, *artifact.external)}
    found = (_problem(path, lock, listed) for path in _files(folder) if path not in leave_out)
    return sorted((problem for problem in found if problem), key=lambda problem: problem.path)


def _files(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(os.path.abspath(folder)):
        folders[:] = sorted(name for name in folders if not _skipped(Path(parent, name)))
        yield from (Path(parent, name) for name in sorted(names))


def _skipped(folder: Path) -> bool:
    return folder.name in SKIPPED_FOLDERS or (folder / ENVIRONMENT_MARK).is_file()


def _problem(path: Path, lock: Lock, listed: Collection[str]) -> Problem | None:
    try:
        name = file_name(path, lock.folder)
        expressible = True
    except LockError:  # no entry could name it
        name, expressible = path.as_posix(), False
    if name in listed or path == lock.path or (path.is_symlink() and not path.exists()):
        return None
    try:
        kind = sniff_format(path) if path.is_file() else None
    except ModelError as error:
        return _unlocked(name, f"{error} So nobody knows whether it is a model.", "Make it readable, or move it away.")
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
