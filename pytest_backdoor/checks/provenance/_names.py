"""How the lock file names a model: a path relative to its own folder, or ``hf://owner/repo@revision/file``."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path, PurePosixPath

from pytest_backdoor.errors import LockError, ModelError
from pytest_backdoor.models.hub import HUB_PREFIX, parse_hub_name
from pytest_backdoor.models.inspection import DRIVE


def name_problem(name: str) -> str | None:
    """Why ``name`` cannot stand in a lock file, as the end of a sentence; None if it can."""
    if name.startswith(HUB_PREFIX):
        parsed = parse_hub_name(name)
        return name_problem(parsed.file) if parsed else "is not of the form hf://owner/repo@revision/file"
    if not name or not name.isprintable() or "\\" in name:
        return "is empty or holds a backslash, a control character or bytes that are no text"
    if name.startswith("/") or DRIVE.match(name) or "://" in name:
        return "is not relative to the folder of the lock file"
    if any(part in ("", ".", "..") for part in name.split("/")):
        return "holds an empty, '.' or '..' part"
    if unicodedata.normalize("NFC", name) != name:
        return "is not in Unicode normal form NFC"
    return None


def clash_key(name: str) -> str:
    """Equal for names that some file systems take for the same file."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def file_name(path: Path, folder: Path) -> str:
    """How a lock file in ``folder`` names the file at ``path``.

    The last component is kept as it is typed: in a model cache it is a link whose target has a meaningless name.
    Raises LockError if the file lies outside the folder or its name cannot stand in a lock file.
    """
    relative = _relative(Path(os.path.abspath(path)), Path(os.path.abspath(folder)))
    if relative is None:
        relative = _relative(Path(os.path.realpath(path.parent)) / path.name, Path(os.path.realpath(folder)))
    if relative is None:
        raise LockError(
            f"{path} lies outside {folder}, the folder of the lock file; move the model or keep the lock file above it."
        )
    name = unicodedata.normalize("NFC", relative.as_posix())
    problem = name_problem(name)
    if problem:
        raise LockError(f"{path} cannot be listed in a lock file because its name {problem}; rename it.")
    return name


def _relative(path: Path, folder: Path) -> Path | None:
    return path.relative_to(folder) if path.is_relative_to(folder) else None


def sibling_name(name: str, location: str) -> str:
    """How a lock file names the external data ``location`` of the model ``name``."""
    folder = name.rpartition("/")[0]
    relative = unicodedata.normalize("NFC", PurePosixPath(location).as_posix())
    return f"{folder}/{relative}" if folder else relative


def locate(name: str, folder: Path) -> Path:
    """Where the file lies that a lock file in ``folder`` calls ``name``; ``hf://`` names lie in the local cache.

    Raises ModelError if an ``hf://`` name is malformed or not in the cache: nothing is downloaded.
    """
    if not name.startswith(HUB_PREFIX):
        return folder / name
    parsed = parse_hub_name(name)
    if parsed is None or name_problem(name):
        raise ModelError(f"{name} is not of the form hf://owner/repo@revision/file; correct the name.")
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(parsed.repo, parsed.file, revision=parsed.requested)
    if not isinstance(found, str):
        raise ModelError(
            f"{name} is not in the local cache; fetch it with: hf download {parsed.repo} {parsed.file} "
            f"--revision {parsed.requested}"
        )
    return Path(found)
