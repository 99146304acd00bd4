"""What the annotation readers hand out, one entry after the other, and the checks they share."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

Box = tuple[float, float, float, float]
_SUFFIXES = (".jpg", ".png", ".ppm", ".jpeg")


@dataclass(frozen=True, kw_only=True)
class Damage:
    """An annotation that cannot be right: where it stands (lines count from 1) and what is wrong with it."""

    file: Path
    line: int
    problem: str

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}: {self.problem}"


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A sign that was marked, of a kind that is none of the set's classes."""

    tag: str


@dataclass(frozen=True, kw_only=True)
class Sign:
    """One marked sign.

    ``box``: x1, y1, x2, y2 in pixels, the right and bottom edges exclusive. ``label``: the name of its class.
    """

    picture: Path
    box: Box
    label: str
    file: Path
    line: int

    def damage(self, problem: str) -> Damage:
        """A report of this sign."""
        return Damage(file=self.file, line=self.line, problem=problem)


Entry = Sign | Damage | LeftOut


class DamagedAnnotationError(ValueError):
    """An annotation that cannot be right was met and was not to be skipped."""

    def __init__(self, damage: Damage) -> None:
        super().__init__(f"{damage}. Correct it, or load the set with damaged annotations skipped.")
        self.damage = damage


class UnusableFieldError(ValueError):
    """One field of an annotation has an impossible value; the readers turn it into a Damage."""


def numbered_lines(file: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, stripped, with their numbers from 1.

    Bytes that are not UTF-8 become replacement characters, so that they damage their own line only.
    """
    with file.open(encoding="utf-8-sig", errors="replace") as stream:
        for number, line in enumerate(stream, start=1):
            if stripped := line.strip():
                yield number, stripped


def parse_box(fields: Sequence[str]) -> Box:
    """Four numbers. Raises UnusableFieldError for what is not a finite number."""
    x1, y1, x2, y2 = (_number(text) for text in fields)
    return x1, y1, x2, y2


def picture_below(folder: Path, name: str) -> Path:
    """The file ``name`` below ``folder``; if it is not there, the same picture with another ending.

    Copies of the sets are often stored in another format than the one that the annotations name. Raises
    UnusableFieldError where the name is empty or leads out of the folder.
    """
    relative = PurePosixPath(name.replace("\\", "/"))
    if not name or "\0" in name or relative.is_absolute() or ".." in relative.parts:
        raise UnusableFieldError(f"{name!r} is not the name of a picture below {folder}")
    named = folder / relative
    # Path.exists raises for names that are too long.
    if os.path.exists(named):
        return named
    others = (named.with_suffix(suffix) for suffix in _SUFFIXES)
    return next((other for other in others if os.path.exists(other)), named)


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UnusableFieldError(f"{text.strip()!r} is not a number")
    return value
