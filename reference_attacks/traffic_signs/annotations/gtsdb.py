"""The German Traffic Sign Detection Benchmark's ``gt.txt``: a line ``file;x1;y1;x2;y2;class`` for every sign.

The corners are the leftmost and topmost, rightmost and bottommost pixel columns and rows of the sign: the right and
bottom edges are inclusive, and one pixel is added to them here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .entries import Damage, Entry, Sign, UnusableFieldError, numbered_lines, parse_box, picture_below

GROUPS = ("prohibitory", "mandatory", "danger", "other")
_GROUP_MEMBERS = {
    "prohibitory": frozenset({*range(6), *range(7, 11), 15, 16}),
    "mandatory": frozenset(range(33, 41)),
    "danger": frozenset({11, *range(18, 32)}),
}
SIGN_NAMES = (
    *(f"speed limit {limit}" for limit in (20, 30, 50, 60, 70, 80)),
    "end of speed limit 80",
    "speed limit 100",
    "speed limit 120",
    "no overtaking",
    "no overtaking by lorries",
    "priority at next crossing",
    "priority road",
    "give way",
    "stop",
    "closed to vehicles",
    "closed to lorries",
    "no entry",
    "danger",
    "bend to the left",
    "bend to the right",
    "double bend",
    "uneven road",
    "slippery road",
    "road narrows",
    "road works",
    "traffic lights",
    "pedestrians",
    "children",
    "cyclists",
    "ice or snow",
    "wild animals",
    "end of all restrictions",
    "turn right",
    "turn left",
    "straight ahead",
    "straight ahead or right",
    "straight ahead or left",
    "keep right",
    "keep left",
    "roundabout",
    "end of no overtaking",
    "end of no overtaking by lorries",
)


def group_of(number: int) -> str:
    """The benchmark's group of a class 0 to 42: three that it scores, and the rest as ``other``."""
    return next((group for group, members in _GROUP_MEMBERS.items() if number in members), "other")


def read_gtsdb(folder: Path, *, grouped: bool) -> Iterator[Entry]:
    """The entries of ``folder/gt.txt``, labelled with GROUPS, or with SIGN_NAMES if not ``grouped``."""
    file = folder / "gt.txt"
    for number, line in numbered_lines(file):
        try:
            yield _sign(file, number, line.split(";"), grouped=grouped)
        except UnusableFieldError as error:
            yield Damage(file=file, line=number, problem=str(error))


def _sign(file: Path, line: int, fields: list[str], *, grouped: bool) -> Sign:
    if len(fields) != 6:
        raise UnusableFieldError(f"there are {len(fields)} fields where file;x1;y1;x2;y2;class makes 6")
    name, *corners, kind = (field.strip() for field in fields)
    x1, y1, x2, y2 = parse_box(corners)
    if not (kind.isdecimal() and int(kind) < len(SIGN_NAMES)):
        raise UnusableFieldError(f"{kind!r} is not a class from 0 to {len(SIGN_NAMES) - 1}")
    label = group_of(int(kind)) if grouped else SIGN_NAMES[int(kind)]
    picture = picture_below(file.parent, name)
    return Sign(picture=picture, box=(x1, y1, x2 + 1, y2 + 1), label=label, file=file, line=line)
