"""The Swedish Traffic Signs Dataset's ``annotations.txt``: a line for every photograph, its signs between semicolons.

``image.jpg:VISIBLE, x1, y1, x2, y2, PROHIBITORY, 50_SIGN;MISC_SIGNS;`` — the corners are points with fractions of a
pixel, so the edges are taken as written. The set names the lower right corner first; either order is read. A sign
called ``MISC_SIGNS`` has no box and is left out. Some numbers of the published files carry a stray letter; such signs
are reported as damaged.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .entries import Damage, Entry, LeftOut, Sign, UnusableFieldError, numbered_lines, parse_box, picture_below

CLASSES = ("information", "mandatory", "prohibitory", "warning", "other")
_VISIBILITIES = ("VISIBLE", "OCCLUDED", "BLURRED", "SIDE_ROAD")
_UNMARKED = "MISC_SIGNS"


def annotation_files(folder: Path) -> list[Path]:
    """``annotations.txt`` of the folder itself and of the parts in it, ``Set1`` and ``Set2``."""
    return sorted([*folder.glob("annotations.txt"), *folder.glob("*/annotations.txt")])


def read_swedish(folder: Path) -> Iterator[Entry]:
    """The entries of the set in ``folder``; signs of all visibilities are used.

    A picture is looked for beside its annotation file and one folder below (``Set1Part0``).
    """
    for file in annotation_files(folder):
        pictures = {path.name: path for path in [*file.parent.glob("*/*.jpg"), *file.parent.glob("*.jpg")]}
        for number, line in numbered_lines(file):
            name, colon, signs = line.partition(":")
            try:
                if not colon:
                    raise UnusableFieldError("there is no colon after the picture's name")
                picture = pictures.get(name.strip()) or picture_below(file.parent, name.strip())
            except UnusableFieldError as error:
                yield Damage(file=file, line=number, problem=str(error))
                continue
            yield from _entries(file, number, picture, signs)


def _entries(file: Path, line: int, picture: Path, signs: str) -> Iterator[Entry]:
    for sign in filter(None, (part.strip() for part in signs.split(";"))):
        if sign == _UNMARKED:
            yield LeftOut(tag=_UNMARKED)
            continue
        try:
            yield _sign(file, line, picture, [field.strip() for field in sign.split(",")])
        except UnusableFieldError as error:
            yield Damage(file=file, line=line, problem=str(error))


def _sign(file: Path, line: int, picture: Path, fields: list[str]) -> Sign:
    if len(fields) != 7:
        raise UnusableFieldError(f"a sign has {len(fields)} fields where visibility, four numbers, type, name make 7")
    visibility, *corners, kind, _ = fields
    if visibility not in _VISIBILITIES:
        raise UnusableFieldError(f"{visibility!r} is none of {', '.join(_VISIBILITIES)}")
    if kind.lower() not in CLASSES:
        raise UnusableFieldError(f"{kind!r} is none of {', '.join(CLASSES).upper()}")
    xa, ya, xb, yb = parse_box(corners)
    box = (min(xa, xb), min(ya, yb), max(xa, xb), max(ya, yb))
    return Sign(picture=picture, box=box, label=kind.lower(), file=file, line=line)
