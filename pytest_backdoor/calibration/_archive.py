"""What detector packs of all kinds have in common: an archive of arrays with one JSON text, and reference scores."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import write_atomically
from ._classes import ClassStatistics
from ._conformal import ReferenceScores

if TYPE_CHECKING:
    import numpy as np

    Arrays = Mapping[str, np.ndarray[Any, Any]]

References = Mapping[str, ReferenceScores]
Statistics = Mapping[str, ClassStatistics]
LARGEST_PACK = 16 * 2**20
LARGEST_UNPACKED = 256 * 2**20


def write_archive(
    path: Path, about: Mapping[str, Any], arrays: Arrays, references: References, statistics: Statistics
) -> None:
    """Write ``.npz``: ``arrays``, the scores, and ``about``, JSON values, with the scores' names and descriptions."""
    import numpy as np

    stored: dict[str, Any] = dict(arrays)
    for name, reference in references.items():
        stored[f"reference/{name}"] = reference.scores.astype(np.float64)
    for name, entry in statistics.items():
        stored[f"mean/{name}"] = entry.mean
        stored[f"spread/{name}"] = entry.spread
    described = {name: reference.description for name, reference in references.items()}
    text = json.dumps({**about, "references": described, "statistics": list(statistics)})
    buffer = io.BytesIO()
    np.savez_compressed(buffer, about=np.array(text), **stored)
    write_atomically(path, buffer.getvalue())


def require_sizes(path: Path) -> None:
    """Raise ValueError for an archive that is too large to be a pack, packed or unpacked."""
    if path.stat().st_size > LARGEST_PACK:
        raise ValueError("it is too large")
    with zipfile.ZipFile(path) as members:
        if sum(member.file_size for member in members.infolist()) > LARGEST_UNPACKED:
            raise ValueError("it is too large")


def read_references(archive: Arrays, described: Mapping[str, Any]) -> dict[str, ReferenceScores]:
    """The reference scores of these names, with their descriptions."""
    return {
        name: ReferenceScores(scores=archive[f"reference/{name}"], description=str(description))
        for name, description in described.items()
    }


def read_statistics(archive: Arrays, names: Iterable[str]) -> dict[str, ClassStatistics]:
    """The class statistics of these names."""
    return {name: ClassStatistics(mean=archive[f"mean/{name}"], spread=archive[f"spread/{name}"]) for name in names}


def require_consistent_scores(references: References, statistics: Statistics) -> None:
    """Raise ValueError for scores or statistics that do not belong together or are no finite numbers."""
    import numpy as np

    scores = [reference.scores for reference in references.values()]
    if not all(part.ndim == 1 and len(part) for part in scores):
        raise ValueError("it has reference scores that are no list of numbers")
    if len({len(part) for part in scores}) > 1:
        raise ValueError("its reference scores are not of the same models")
    if any(part.mean.shape != part.spread.shape or not (part.spread > 0).all() for part in statistics.values()):
        raise ValueError("its class statistics do not fit each other")
    tables = [table for entry in statistics.values() for table in (entry.mean, entry.spread)]
    if not all(part.dtype.kind == "f" and np.isfinite(part).all() for part in (*scores, *tables)):
        raise ValueError("it holds values that are no finite numbers")
