"""Detector packs for object detectors: reference scores, without patterns or made-up images."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import SettingsError
from ..files import write_atomically
from ._classes import ClassStatistics
from ._conformal import ReferenceScores
from ._pack import LARGEST_PACK, LARGEST_UNPACKED

KIND = "object-detection"
VERSION = 1


@dataclass(frozen=True, kw_only=True)
class ObjectDetectorPack:
    """What clean object detectors of one kind score.

    ``classes``: of a box, background included. ``references``, ``statistics`` and ``built``: as for ``DetectorPack``.
    Scores depend on the photographs that triggers were sought on: a detector has to be audited on ones of that kind.
    """

    name: str
    classes: int
    references: dict[str, ReferenceScores]
    statistics: dict[str, ClassStatistics] = field(default_factory=dict)
    built: dict[str, Any] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write the pack as ``.npz``: arrays, and one JSON text for the rest."""
        import numpy as np

        arrays: dict[str, Any] = {}
        for name, reference in self.references.items():
            arrays[f"reference/{name}"] = reference.scores.astype(np.float64)
        for name, statistics in self.statistics.items():
            arrays[f"mean/{name}"] = statistics.mean
            arrays[f"spread/{name}"] = statistics.spread
        about = {
            "kind": KIND,
            "version": VERSION,
            "name": self.name,
            "task": {"classes": self.classes},
            "references": {name: reference.description for name, reference in self.references.items()},
            "statistics": list(self.statistics),
            "built": self.built,
        }
        buffer = io.BytesIO()
        np.savez_compressed(buffer, about=np.array(json.dumps(about)), **arrays)
        write_atomically(path, buffer.getvalue())


def load_object_pack(path: Path) -> ObjectDetectorPack | None:
    """Read a pack; None if it is one for image classifiers.

    Raises SettingsError if the file is missing, damaged or of another version.
    """
    try:
        return _unpack(path)
    except Exception as error:  # numpy, zipfile and json raise many types for a damaged file
        raise SettingsError(f"The detector pack {path} cannot be read: {error}. Build it again.") from error


def _unpack(path: Path) -> ObjectDetectorPack | None:
    import numpy as np

    if path.stat().st_size > LARGEST_PACK:
        raise ValueError("it is too large")
    with zipfile.ZipFile(path) as members:
        if sum(member.file_size for member in members.infolist()) > LARGEST_UNPACKED:
            raise ValueError("it is too large")
    with np.load(path, allow_pickle=False) as archive:
        about = json.loads(str(archive["about"]))
        if about.get("kind") != KIND:
            return None
        if about["version"] != VERSION:
            raise ValueError(f"it has version {about['version']}, this is version {VERSION}")
        pack = ObjectDetectorPack(
            name=str(about["name"]),
            classes=int(about["task"]["classes"]),
            references={
                name: ReferenceScores(scores=archive[f"reference/{name}"], description=str(description))
                for name, description in about["references"].items()
            },
            statistics={
                name: ClassStatistics(mean=archive[f"mean/{name}"], spread=archive[f"spread/{name}"])
                for name in about["statistics"]
            },
            built=about["built"],
        )
    _require_consistent(pack)
    return pack


def _require_consistent(pack: ObjectDetectorPack) -> None:
    import numpy as np

    scores = [reference.scores for reference in pack.references.values()]
    if not all(part.ndim == 1 and len(part) and part.dtype.kind == "f" for part in scores):
        raise ValueError("it has reference scores that are no list of numbers")
    if len({len(part) for part in scores}) > 1:
        raise ValueError("its reference scores are not of the same models")
    tables = [table for statistics in pack.statistics.values() for table in (statistics.mean, statistics.spread)]
    if any(part.mean.shape != part.spread.shape or not (part.spread > 0).all() for part in pack.statistics.values()):
        raise ValueError("its class statistics do not fit each other")
    if not all(np.isfinite(part).all() for part in (*scores, *tables)):
        raise ValueError("it holds values that are no finite numbers")
