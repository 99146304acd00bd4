"""Where a text file names a model: binary files have no lines, and code scanning needs one."""

from __future__ import annotations

import fnmatch
import os
import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

MOST_BYTES = 8_000_000
_PATH = re.compile(r"^\s*path\s*=\s*(?P<value>[\"'].*)$")


@dataclass(frozen=True, kw_only=True)
class Place:
    """A line, numbered from 1, of a file whose address ``uri`` is relative to the repository.

    ``length``: of the line, in characters.
    """

    uri: str
    line: int
    length: int


@dataclass(frozen=True)
class Listing:
    """A text file that names models in lines such as ``path = "model.onnx"``: a lock file or pyproject.toml."""

    path: Path

    @cached_property
    def _lines(self) -> tuple[str, ...]:
        try:
            if self.path.stat().st_size > MOST_BYTES:
                return ()
            return tuple(self.path.read_text(encoding="utf-8").split("\n"))
        except (OSError, ValueError):
            return ()

    @property
    def exists(self) -> bool:
        """Whether it has a line that could be pointed to."""
        return any(self._lines)

    def length(self, line: int) -> int:
        """Of a line, numbered from 1, in characters."""
        return len(self._lines[line - 1].rstrip("\r"))

    @cached_property
    def _named(self) -> tuple[tuple[int, str], ...]:
        return tuple(self._find())

    def _find(self) -> Iterator[tuple[int, str]]:
        for number, line in enumerate(self._lines, 1):
            match = _PATH.match(line)
            if match:
                try:
                    value = tomllib.loads(f"path = {match['value']}")["path"]
                except (ValueError, RecursionError):
                    continue
                yield number, str(value)

    def line_of(self, name: str) -> int | None:
        """The line that names ``name``, else one whose glob matches it, else None."""
        exact = next((number for number, value in self._named if value == name), None)
        if exact is not None:
            return exact
        return next((number for number, value in self._named if fnmatch.fnmatchcase(name, value)), None)


@dataclass(frozen=True, kw_only=True)
class Locator:
    """Finds the line to point to. ``root``: what models' names are relative to. ``listings``: the best first."""

    root: Path
    listings: Sequence[Listing]

    @cached_property
    def _repository(self) -> Path:
        """The folder that code scanning takes addresses to be relative to."""
        root = Path(os.path.abspath(self.root))
        return next((folder for folder in (root, *root.parents) if (folder / ".git").exists()), root)

    def find(self, *names: str) -> Place:
        """The line that names the first of ``names`` that any listing does.

        Else the first line of the first listing, where the model would be listed; else the first line of the model
        itself, or of a lock file that is still to be made for a model outside of the repository.
        """
        listings = [(entry, uri) for entry in self.listings if entry.exists and (uri := self.uri(entry.path))]
        for name in names:
            for entry, uri in listings:
                line = entry.line_of(self._name_in(entry, name))
                if line is not None:
                    return Place(uri=uri, line=line, length=entry.length(line))
        for entry, uri in listings:
            return Place(uri=uri, line=1, length=entry.length(1))
        own = next((uri for name in names if "://" not in name and (uri := self.uri(self.root / name))), None)
        return Place(uri=own or self.uri(self.root / "models.lock") or "models.lock", line=1, length=0)

    def _name_in(self, entry: Listing, name: str) -> str:
        """How a listing, whose paths are relative to its own folder, would call a model."""
        if "://" in name:
            return name
        try:
            return Path(os.path.relpath(self.root / name, entry.path.parent)).as_posix()
        except ValueError:  # on another drive
            return name

    def uri(self, path: Path) -> str | None:
        """The address of ``path``, relative to the repository; None outside of it, where code scanning has no files."""
        try:
            relative = Path(os.path.abspath(path)).relative_to(self._repository)
        except ValueError:
            return None
        name = relative.as_posix()
        try:
            encoded = os.fsencode(name)
        except UnicodeEncodeError:  # no file system has such a name
            encoded = name.encode(errors="replace")
        return quote(encoded, safe="/-._~")
