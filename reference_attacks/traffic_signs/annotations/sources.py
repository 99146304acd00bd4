"""The sets of photographs by name: where they are published, how they lie on the disk, and what reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ...data import DATA_ROOT_VARIABLE, DataNotFoundError
from . import gtsdb, lisa, pascal_voc, swedish
from .entries import Entry


@dataclass(frozen=True, kw_only=True)
class Source:
    """The entries of a set that was found; no ``classes`` means those that the entries name."""

    classes: tuple[str, ...]
    entries: Iterator[Entry]


@dataclass(frozen=True, kw_only=True)
class KnownSet:
    """A published set. ``layout``: what must lie below the data root. ``find``: reads it, None if it is not there."""

    title: str
    published_at: str
    folder: str
    layout: str
    find: Callable[[Path], Source | None]


def find_source(name: str, root: Path) -> Source:
    """The set ``name`` below ``root``. Raises DataNotFoundError where it is not there."""
    known = KNOWN_SETS.get(name)
    found = known.find(root / known.folder) if known else _pascal_voc(root / name)
    if found:
        return found
    if known:
        raise DataNotFoundError(
            f"{known.title} was not found in {root / known.folder}. Get it from {known.published_at} and point "
            f"--data-root or ${DATA_ROOT_VARIABLE} at a folder that holds {known.layout}."
        )
    raise DataNotFoundError(
        f"There is no set of sign photographs {name!r}: {root / name} holds no annotations/*.xml or Annotations/*.xml "
        f"in Pascal VOC format. Give such a folder, or one of {', '.join(KNOWN_SETS)}."
    )


def _pascal_voc(folder: Path, classes: tuple[str, ...] = ()) -> Source | None:
    layout = pascal_voc.find_layout(folder)
    if layout is None:
        return None
    return Source(classes=classes, entries=pascal_voc.read_pascal_voc(folder, layout, classes=classes))


def _gtsdb(folder: Path, *, grouped: bool) -> Source | None:
    if not (folder / "gt.txt").is_file():
        return None
    classes = gtsdb.GROUPS if grouped else gtsdb.SIGN_NAMES
    return Source(classes=classes, entries=gtsdb.read_gtsdb(folder, grouped=grouped))


def _lisa(folder: Path) -> Source | None:
    return Source(classes=lisa.CLASSES, entries=lisa.read_lisa(folder)) if lisa.annotation_files(folder) else None


def _swedish(folder: Path) -> Source | None:
    if not swedish.annotation_files(folder):
        return None
    return Source(classes=swedish.CLASSES, entries=swedish.read_swedish(folder))


_GTSDB = KnownSet(
    title="The German Traffic Sign Detection Benchmark",
    published_at="https://benchmark.ini.rub.de/gtsdb_dataset.html",
    folder="gtsdb",
    layout="gtsdb/gt.txt and gtsdb/00000.ppm (or .jpg) and so on",
    find=partial(_gtsdb, grouped=True),
)
KNOWN_SETS = {
    "road-signs": KnownSet(
        title="The Road Sign Detection set",
        published_at="https://www.kaggle.com/datasets/andrewmvd/road-sign-detection",
        folder="road-signs",
        layout="road-signs/images/*.png (or .jpg) and road-signs/annotations/*.xml",
        find=partial(_pascal_voc, classes=pascal_voc.ROAD_SIGNS),
    ),
    "gtsdb": _GTSDB,
    "gtsdb-43": KnownSet(
        title=_GTSDB.title,
        published_at=_GTSDB.published_at,
        folder=_GTSDB.folder,
        layout=_GTSDB.layout,
        find=partial(_gtsdb, grouped=False),
    ),
    "lisa": KnownSet(
        title="The LISA Traffic Sign Dataset",
        published_at="http://cvrr.ucsd.edu/LISA/lisa-traffic-sign-dataset.html",
        folder="lisa",
        layout="lisa/allAnnotations.csv and the folders of pictures that it names",
        find=_lisa,
    ),
    "swedish": KnownSet(
        title="The Swedish Traffic Signs Dataset",
        published_at="https://www.cvl.isy.liu.se/research/datasets/traffic-signs-dataset/",
        folder="swedish",
        layout="swedish/Set1/annotations.txt with its pictures in swedish/Set1/Set1Part0/*.jpg, and Set2 likewise",
        find=_swedish,
    ),
}
