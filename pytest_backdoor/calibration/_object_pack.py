"""Detector packs for object detectors: reference scores, without patterns or made-up images."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import SettingsError
from ._archive import read_references, read_statistics, require_consistent_scores, require_sizes, write_archive
from ._classes import ClassStatistics
from ._conformal import ReferenceScores

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
        about = {
            "kind": KIND,
            "version": VERSION,
            "name": self.name,
            "task": {"classes": self.classes},
            "built": self.built,
        }
        write_archive(path, about, {}, self.references, self.statistics)


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

    require_sizes(path)
    with np.load(path, allow_pickle=False) as archive:
        about = json.loads(str(archive["about"]))
        if about.get("kind") != KIND:
            return None
        if about["version"] != VERSION:
            raise ValueError(f"it has version {about['version']}, this is version {VERSION}")
        pack = ObjectDetectorPack(
            name=str(about["name"]),
            classes=int(about["task"]["classes"]),
            references=read_references(archive, about["references"]),
            statistics=read_statistics(archive, about["statistics"]),
            built=about["built"],
        )
    require_consistent_scores(pack.references, pack.statistics)
    return pack
