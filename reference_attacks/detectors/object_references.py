"""Box patches on clean object detectors: the reference scores of whole-detector reversal."""

from __future__ import annotations

import hashlib
import io
import json
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from pytest_backdoor.calibration import ObjectDetectorPack, ReferenceScores
from pytest_backdoor.checks.reversal import (
    BOX_PATCH_COMPONENT,
    fit_statistics,
    held_out_scores,
    reverse_detector,
)
from pytest_backdoor.errors import NotAssessableError
from pytest_backdoor.files import write_atomically
from pytest_backdoor.models import Subject, load_photographs
from pytest_backdoor.settings import ScanSettings

from ..parallel import work_off
from .matrix.rows import row_of

FEWEST = 3


@dataclass(frozen=True, kw_only=True)
class _Job:
    detector: Path
    photographs: Path
    kept: Path
    seed: int


def make_object_pack(
    detectors: Sequence[Path],
    photographs: Path,
    *,
    work: Path,
    name: str,
    workers: int = 1,
    seed: int = 0,
    command: str = "",
) -> ObjectDetectorPack:
    """The pack of clean ``detectors``, ONNX files or folders of them, on ``photographs``.

    Margins are kept in ``work``, by the content of each file, and not computed twice. Detectors that cannot be assessed
    are left out. Raises ValueError for a detector that is known to be backdoored, for ones of different classes, and if
    fewer than three are left, as each is scored by the statistics of the others.
    """
    files = [file for path in detectors for file in (sorted(path.rglob("*.onnx")) if path.is_dir() else [path])]
    for file in files:
        _require_clean(file)
    setting = _setting(photographs, seed)
    jobs = [
        _Job(detector=file, photographs=photographs.resolve(), seed=seed, kept=work / setting / f"{_digest(file)}.npz")
        for file in files
    ]
    missing = [job for job in jobs if not job.kept.exists()]
    work_off(_search, missing, workers=workers, description="Reversing triggers")
    margins = [np.load(job.kept, allow_pickle=False)["margins"] for job in jobs]
    tables = [table for table in margins if table.size]
    if len(tables) < FEWEST or len({table.shape for table in tables}) > 1:
        raise ValueError(
            f"{len(tables)} of {len(files)} detectors could be assessed, of {len({t.shape for t in tables})} kind(s); "
            "reference scores need three or more with the same classes, and photographs of their objects."
        )
    table = np.stack(tables)
    description = f"{len(table)} clean object detectors, box patches sought on photographs"
    return ObjectDetectorPack(
        name=name,
        classes=table.shape[2] - 1,
        references={BOX_PATCH_COMPONENT: ReferenceScores(scores=held_out_scores(table), description=description)},
        statistics={BOX_PATCH_COMPONENT: fit_statistics(table)},
        built={
            "command": command,
            "detectors": len(table),
            "left_out": len(files) - len(table),
            "seed": seed,
            "versions": {package: version(package) for package in ("pytest-backdoor", "torch", "numpy")},
            "python": platform.python_version(),
        },
    )


def _require_clean(file: Path) -> None:
    card = file.with_suffix(".json")
    if card.is_file() and row_of(json.loads(card.read_text(encoding="utf-8"))).poisoned:
        raise ValueError(f"{file} has a backdoor, as {card.name} says; references must be clean detectors.")


def _setting(photographs: Path, seed: int) -> str:
    """A folder name for margins on these photographs."""
    files = sorted(photographs.rglob("*")) if photographs.is_dir() else [photographs]
    listing = json.dumps(
        [(str(file.relative_to(photographs)), file.stat().st_size) for file in files if file.is_file()]
    )
    return f"{hashlib.sha256(listing.encode()).hexdigest()[:8]}.seed{seed}"


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]


def _search(job: _Job) -> None:
    subject = Subject(job.detector.name, ScanSettings(), path=job.detector)
    detector = subject.detector
    if detector is None:
        raise ValueError(f"{job.detector} is no object detector.")
    photographs = load_photographs(
        str(job.photographs), root=Path("/"), channels=detector.channels, size=detector.size, seed=job.seed
    )
    margins: np.ndarray[Any, Any]
    try:
        margins = reverse_detector(detector, photographs).searched.margins.numpy()
    except NotAssessableError:
        margins = np.zeros(0)
    buffer = io.BytesIO()
    np.savez(buffer, margins=margins)
    write_atomically(job.kept, buffer.getvalue())
