"""The margin check's search on the networks of a zoo."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pytest_backdoor.checks.margin import measure_margins
from pytest_backdoor.errors import NotAssessableError
from pytest_backdoor.files import write_atomically

from ..parallel import work_off
from ..zoo.store import Zoo
from .reversal import REFUSED, NetworkJob, digest, stacked


@dataclass(frozen=True, kw_only=True)
class _Job(NetworkJob):
    prototypes: np.ndarray[Any, Any]

    @property
    def path(self) -> Path:
        """Where the result is kept."""
        folder = Path(self.record["folder"]) / "margin" / f"{digest(self.prototypes)}.seed{self.seed}"
        return folder / f"{self.record['name']}.npz"


def maximum_margins(
    zoo: Zoo, records: Sequence[dict[str, Any]], prototypes: np.ndarray[Any, Any], *, workers: int, seed: int
) -> np.ndarray[Any, Any]:
    """The margins of each network, float64 ``(N, places, K)``, NaN for one that cannot be assessed.

    Results are kept in the zoo's folder and not computed twice.
    """
    jobs = [
        _Job(record=record, input_shape=zoo.input_shape, classes=zoo.classes, seed=seed, prototypes=prototypes)
        for record in records
    ]
    missing = [job for job in jobs if not job.path.exists()]
    work_off(_search, missing, workers=workers, description="Maximising margins")
    return stacked([np.load(job.path, allow_pickle=False)["margins"] for job in jobs])


def _search(job: _Job) -> None:
    try:
        margins = measure_margins(job.classifier(), job.prototypes, seed=job.seed).margins
    except NotAssessableError:
        margins = REFUSED
    buffer = io.BytesIO()
    np.savez(buffer, margins=margins)
    write_atomically(job.path, buffer.getvalue())
