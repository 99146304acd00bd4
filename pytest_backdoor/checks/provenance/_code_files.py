"""Which Python files belong to a project."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

SKIPPED = ("node_modules", "venv", "env", "__pycache__", "site-packages")
GIT_SECONDS = 60


def python_files(folder: Path) -> list[Path]:
    """The ``.py`` files below ``folder``, sorted: those that git tracks, or all where it is no git repository.

    Without git, hidden folders, ``node_modules`` and virtual environments are left out, and links are not followed.
    """
    tracked = _tracked(folder)
    files = _walked(folder) if tracked is None else tracked
    return sorted(path for path in files if path.is_file() and not path.is_symlink())


def _tracked(folder: Path) -> list[Path] | None:
    # Configuration of a repository may name programs that git runs.
    command = ["git", "-c", "core.fsmonitor=false", "-C", str(folder), "ls-files", "-z", "--cached", "--", "*.py"]
    try:
        result = subprocess.run(command, capture_output=True, timeout=GIT_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if result.returncode != 0:
        return None
    return [folder / os.fsdecode(name) for name in result.stdout.split(b"\0") if name]


def _walked(folder: Path) -> list[Path]:
    found: list[Path] = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".")
            and name not in SKIPPED
            and not os.path.exists(os.path.join(parent, name, "pyvenv.cfg"))
        ]
        found.extend(Path(parent, name) for name in files if name.endswith(".py"))
    return found
