"""Pascal VOC folders: an XML file for every photograph, an ``object`` with a ``bndbox`` for every sign.

In the challenge's own layout, ``JPEGImages`` and ``Annotations``, pixels are counted from 1 and all four edges are
inclusive. In the lower-case layout of ``images`` and ``annotations`` corners start at 0 and reach the picture's width
and height, so the right and bottom edges are exclusive.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .entries import Box, Damage, Entry, Sign, UnusableFieldError, parse_box, picture_below
from .voc_document import BadXmlError, MarkedObject, parse_voc_document

ROAD_SIGNS = ("stop", "speedlimit", "crosswalk", "trafficlight")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The two folders of a set, and the number of the first pixel in its annotations."""

    pictures: str
    annotations: str
    first_pixel: int


LAYOUTS = (
    Layout(pictures="images", annotations="annotations", first_pixel=0),
    Layout(pictures="JPEGImages", annotations="Annotations", first_pixel=1),
)


def find_layout(folder: Path) -> Layout | None:
    """The layout of the set in ``folder``, None where there is none."""
    return next((each for each in LAYOUTS if any((folder / each.annotations).glob("*.xml"))), None)


def read_pascal_voc(folder: Path, layout: Layout, *, classes: tuple[str, ...] = ()) -> Iterator[Entry]:
    """The entries of the set in ``folder``, files in alphabetical order; labels may only be ``classes`` if given."""
    for file in sorted((folder / layout.annotations).glob("*.xml")):
        try:
            document = parse_voc_document(file.read_bytes())
        except BadXmlError as error:
            yield Damage(file=file, line=error.line, problem=str(error))
            continue
        # Some tools leave the picture's name out; then it is that of the annotation.
        name = document.picture or f"{file.stem}.jpg"
        for marked in document.objects:
            try:
                picture = picture_below(folder / layout.pictures, name)
                box, label = _box(marked, layout.first_pixel), _label(marked, classes)
                yield Sign(picture=picture, box=box, label=label, file=file, line=marked.line)
            except UnusableFieldError as error:
                yield Damage(file=file, line=marked.line, problem=str(error))


def _box(marked: MarkedObject, first_pixel: int) -> Box:
    if missing := [corner for corner in _CORNERS if corner not in marked.corners]:
        raise UnusableFieldError(f"the object's bndbox lacks {', '.join(missing)}")
    x1, y1, x2, y2 = parse_box([marked.corners[corner] for corner in _CORNERS])
    return x1 - first_pixel, y1 - first_pixel, x2, y2


def _label(marked: MarkedObject, classes: tuple[str, ...]) -> str:
    if not marked.name:
        raise UnusableFieldError("the object has no name")
    if classes and marked.name not in classes:
        raise UnusableFieldError(f"{marked.name!r} is none of the classes {', '.join(classes)}")
    return marked.name
