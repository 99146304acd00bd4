"""Photographs with boxes around their traffic signs, and the sets of them that the experiments use."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ..data import data_root
from .annotations.entries import Damage, DamagedAnnotationError, Entry, LeftOut, Sign
from .annotations.sources import find_source

# A hand-drawn edge may lie on the far side of the last pixel; what sticks out further is a mistake in the file.
OUTSIDE_TOLERANCE = 1.0


@dataclass(frozen=True, kw_only=True)
class Photograph:
    """One photograph and the signs in it.

    ``boxes``: float32 ``(n, 4)``, x1, y1, x2, y2 in pixels from the upper left corner, x2 > x1 and y2 > y1, the right
    and bottom edges exclusive. ``labels``: int64 ``(n,)``, positions in the set's ``classes``.
    """

    path: Path
    boxes: torch.Tensor
    labels: torch.Tensor

    def read(self) -> torch.Tensor:
        """The picture, uint8 ``(3, H, W)``, RGB, pixels as stored, for which the boxes were drawn (no Exif turning).

        Raises ValueError where the file cannot be decoded.
        """
        try:
            with Image.open(self.path) as image:
                pixels = np.array(image.convert("RGB"))
        except (
            OSError,
            SyntaxError,
            Image.DecompressionBombError,
        ) as error:  # Pillow raises SyntaxError for some broken PNG files
            raise ValueError(f"{self.path} is not a picture that can be read ({error}). Replace the file.") from error
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


@dataclass(frozen=True, kw_only=True)
class SignSet:
    """Photographs of one source.

    ``skipped``: the damaged annotations that were left out because the caller asked for it. ``left_out``: tag -> number
    of signs that were marked but belong to none of ``classes``.
    """

    name: str
    classes: tuple[str, ...]
    photographs: tuple[Photograph, ...]
    skipped: tuple[Damage, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)

    def split(self, share: float, generator: torch.Generator) -> tuple[SignSet, SignSet]:
        """Training and held-out photographs; ``share`` of them, in (0, 1), are for training.

        A photograph is never in both parts. It is drawn together with those whose rarest class is the same (rarest by
        signs in the whole set), and of two or more such photographs each part gets at least one, so a class with few
        signs is trained and tested. Reports of the loading stay with both parts. Raises ValueError for another share.
        """
        if not 0 < share < 1:
            raise ValueError(f"The training share must lie between 0 and 1, not be {share}.")
        strata = self._by_rarest_class()
        training: list[int] = []
        for rarest in sorted(strata):
            members = torch.tensor(strata[rarest])
            drawn = members[torch.randperm(len(members), generator=generator)]
            wanted = min(max(round(share * len(members)), 1), max(len(members) - 1, 1))
            training += drawn[:wanted].tolist()
        chosen = set(training)
        return self._part(chosen), self._part(set(range(len(self.photographs))) - chosen)

    def _part(self, numbers: set[int]) -> SignSet:
        return replace(self, photographs=tuple(self.photographs[number] for number in sorted(numbers)))

    def _by_rarest_class(self) -> dict[int, list[int]]:
        """Rarest class -> positions of the photographs; -1 for photographs without a sign."""
        counts: Counter[int] = Counter()
        for photograph in self.photographs:
            counts.update(photograph.labels.tolist())
        strata: dict[int, list[int]] = defaultdict(list)
        for number, photograph in enumerate(self.photographs):
            labels = set(photograph.labels.tolist())
            strata[min(labels, key=lambda label: (counts[label], label), default=-1)].append(number)
        return strata


def load_sign_set(name: str, root: str | os.PathLike[str] | None = None, *, skip_damaged: bool = False) -> SignSet:
    """The photographs of the set ``name`` below ``root`` (see ``data_root``) that show a sign of its classes.

    Names: ``road-signs``, ``gtsdb`` (four groups), ``gtsdb-43`` (all 43 classes), ``lisa``, ``swedish``, or the name
    of a folder in Pascal VOC layout, whose classes are those it names, in alphabetical order. Folders, formats and the
    meaning of the edges are told by the modules in ``annotations``. Photographs without a sign are not used, as in
    the paper, whose 8,612 images all have labels (§V-A).

    Raises DataNotFoundError, naming the official source and the expected folder, where the set is not there, and
    DamagedAnnotationError, naming file and line, at the first annotation that cannot be right: a wrong number of
    fields, not a number, a box that is empty or sticks out of the picture by more than a pixel, an unknown class, a
    picture that is missing or unreadable. With ``skip_damaged`` such annotations are left out and listed in the
    result's ``skipped``; the photograph keeps its other signs.
    """
    source = find_source(name, data_root(root))
    signs, skipped, left_out = _sorted_out(source.entries, skip_damaged=skip_damaged)
    classes = source.classes or tuple(sorted({sign.label for sign in signs}))
    photographs = _photographs(signs, classes)
    return SignSet(name=name, classes=classes, photographs=photographs, skipped=skipped, left_out=left_out)


def _sorted_out(
    entries: Iterable[Entry], *, skip_damaged: bool
) -> tuple[list[Sign], tuple[Damage, ...], dict[str, int]]:
    signs: list[Sign] = []
    skipped: list[Damage] = []
    left_out: Counter[str] = Counter()
    sizes: dict[Path, tuple[int, int] | str] = {}
    for entry in entries:
        checked = _within_its_picture(entry, sizes) if isinstance(entry, Sign) else entry
        if isinstance(checked, Damage):
            if not skip_damaged:
                raise DamagedAnnotationError(checked)
            skipped.append(checked)
        elif isinstance(checked, LeftOut):
            left_out[checked.tag] += 1
        else:
            signs.append(checked)
    return signs, tuple(skipped), dict(left_out)


def _within_its_picture(sign: Sign, sizes: dict[Path, tuple[int, int] | str]) -> Sign | Damage:
    """The sign, its box cut at the picture's border; or what is wrong with its box or its picture."""
    if sign.picture not in sizes:
        sizes[sign.picture] = _size(sign.picture)
    size = sizes[sign.picture]
    if isinstance(size, str):
        return sign.damage(size)
    width, height = size
    x1, y1, x2, y2 = sign.box
    if min(x1, y1) < -OUTSIDE_TOLERANCE or x2 > width + OUTSIDE_TOLERANCE or y2 > height + OUTSIDE_TOLERANCE:
        return sign.damage(f"the box {sign.box} lies outside the picture, which is {width} x {height} pixels")
    box = (max(x1, 0.0), max(y1, 0.0), min(x2, float(width)), min(y2, float(height)))
    if box[2] <= box[0] or box[3] <= box[1]:
        return sign.damage(f"the box {sign.box} is empty")
    return replace(sign, box=box)


def _size(picture: Path) -> tuple[int, int] | str:
    """Width and height, from the file's header alone; or what is wrong with the file."""
    try:
        with Image.open(picture) as image:
            return image.size
    except FileNotFoundError:
        return f"the picture {picture} is missing"
    except (OSError, SyntaxError, Image.DecompressionBombError):
        return f"{picture} is not a picture that can be read"


def _photographs(signs: Iterable[Sign], classes: tuple[str, ...]) -> tuple[Photograph, ...]:
    """Photographs in the order in which the annotations first name them."""
    numbers = {name: number for number, name in enumerate(classes)}
    together: dict[Path, list[Sign]] = defaultdict(list)
    for sign in signs:
        together[sign.picture].append(sign)
    return tuple(
        Photograph(
            path=picture,
            boxes=torch.tensor([sign.box for sign in members], dtype=torch.float32),
            labels=torch.tensor([numbers[sign.label] for sign in members]),
        )
        for picture, members in together.items()
    )
