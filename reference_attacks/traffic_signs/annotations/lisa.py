"""The LISA Traffic Sign Dataset, the paper's U.S. set: a CSV with semicolons and a header, a line for every sign.

The columns are found by the header's names, so the extra ones, which differ between the set's files, do not matter.
Its description does not say if the lower right corner is inclusive; it is taken as written, as the edge.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from .entries import Damage, Entry, LeftOut, Sign, UnusableFieldError, numbered_lines, parse_box, picture_below

CLASSES = ("stop", "speedlimit", "warning")
WARNING_TAGS = (
    *("addedLane", "curveLeft", "curveRight", "dip", "intersection", "laneEnds", "merge", "pedestrianCrossing"),
    *("roundAbout", "signalAhead", "slow", "speedBumpsAhead", "stopAhead", "thruMergeLeft", "thruMergeRight"),
    *("turnLeft", "turnRight", "yieldAhead", "warningUrdbl"),
)
SPEED_LIMIT_TAGS = (
    *(f"speedLimit{limit}" for limit in (15, 25, 30, 35, 40, 45, 50, 55, 60, 65)),
    "speedLimitUrdbl",  # unreadable
)
# Files of the set spell some tags with other capitals ("roundabout").
_CLASS_OF_TAG = {
    "stop": "stop",
    **{tag.lower(): "speedlimit" for tag in SPEED_LIMIT_TAGS},
    **{tag.lower(): "warning" for tag in WARNING_TAGS},
}
_COLUMNS = (
    *("Filename", "Annotation tag"),
    *("Upper left corner X", "Upper left corner Y", "Lower right corner X", "Lower right corner Y"),
)


def annotation_files(folder: Path) -> list[Path]:
    """``allAnnotations.csv``, which covers the whole set; else the ``frameAnnotations.csv`` of every recording."""
    whole = folder / "allAnnotations.csv"
    return [whole] if whole.is_file() else sorted(folder.rglob("frameAnnotations.csv"))


def read_lisa(folder: Path) -> Iterator[Entry]:
    """The entries of the set in ``folder``.

    The super-classes are the paper's: ``stop`` alone; the speed limits for all vehicles (not those of ramps, lorries,
    schools or zones ahead); and the set's own group of warning signs. Signs with other tags are left out.
    """
    for file in annotation_files(folder):
        yield from _entries(file)


def _entries(file: Path) -> Iterator[Entry]:
    lines = numbered_lines(file)
    first, header = next(lines, (1, ""))
    names = [name.strip() for name in header.split(";")]
    if missing := [column for column in _COLUMNS if column not in names]:
        yield Damage(file=file, line=first, problem=f"the header lacks {', '.join(missing)}")
        return
    places = [names.index(column) for column in _COLUMNS]
    for number, line in lines:
        fields = [field.strip() for field in line.split(";")]
        try:
            if len(fields) != len(names):
                raise UnusableFieldError(f"there are {len(fields)} fields where the header has {len(names)}")
            yield _entry(file, number, [fields[place] for place in places])
        except UnusableFieldError as error:
            yield Damage(file=file, line=number, problem=str(error))


def _entry(file: Path, line: int, fields: list[str]) -> Entry:
    name, tag, *corners = fields
    if not tag:
        raise UnusableFieldError("the annotation tag is empty")
    label = _CLASS_OF_TAG.get(tag.lower())
    if label is None:
        return LeftOut(tag=tag)
    return Sign(picture=picture_below(file.parent, name), box=parse_box(corners), label=label, file=file, line=line)
