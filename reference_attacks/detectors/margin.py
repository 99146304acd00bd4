"""The margin check's search on the networks of a zoo."""

from __future__ import annotations

import io
import multiprocessing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pytest_backdoor.checks.margin import measure_margins
from pytest_backdoor.errors import NotAssessableError
from pytest_backdoor.files import write_atomically
from pytest_backdoor.models import TorchClassifier
from pytest_backdoor.settings import ScanSettings

from ..zoo.store import Zoo, load_network
from .reversal import REFUSED, digest, stacked


@dataclass(frozen=True, kw_only=True)
class _Job:
    record: dict[str, Any]
    input_shape: tuple[int, int, int]
    classes: int
    seed: int
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
    from rich.progress import track

    jobs = [
        _Job(record=record, input_shape=zoo.input_shape, classes=zoo.classes, seed=seed, prototypes=prototypes)
        for record in records
    ]
    missing = [job for job in jobs if not job.path.exists()]
    if missing:
        context = multiprocessing.get_context("spawn")
        with context.Pool(min(workers, len(missing)), initializer=torch.set_num_threads, initargs=(1,)) as pool:
            finished = pool.imap_unordered(_search, missing)
            for _ in track(finished, total=len(missing), description="Maximising margins"):
                pass
    return stacked([np.load(job.path, allow_pickle=False)["margins"] for job in jobs])


def _search(job: _Job) -> None:
    network = load_network(job.record, job.input_shape, job.classes)
    classifier = TorchClassifier(network, job.record["name"], ScanSettings(input_shape=job.input_shape))
    try:
        margins = measure_margins(classifier, job.prototypes, seed=job.seed).margins
    except NotAssessableError:
        margins = REFUSED
    buffer = io.BytesIO()
    np.savez(buffer, margins=margins)
    write_atomically(job.path, buffer.getvalue())
