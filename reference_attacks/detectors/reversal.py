"""Trigger reversal on the networks of a zoo: references of the reversal check, and how good it is."""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pytest_backdoor.checks.reversal import DEFAULT_FAMILIES, reverse
from pytest_backdoor.errors import NotAssessableError
from pytest_backdoor.files import write_atomically
from pytest_backdoor.models import Samples, TorchClassifier
from pytest_backdoor.settings import ScanSettings

from ..parallel import work_off
from ..zoo.images import read_images
from ..zoo.store import Zoo, load_network

SAMPLES = 100
Margins = dict[str, np.ndarray[Any, Any]]
# What stands for the table of a network on which the search could not be made.
REFUSED = np.zeros(0)


@dataclass(frozen=True, kw_only=True)
class NetworkJob:
    """One network of a zoo on which something is measured."""

    record: dict[str, Any]
    input_shape: tuple[int, int, int]
    classes: int
    seed: int

    def classifier(self) -> TorchClassifier:
        """The network, opened as a scan opens it."""
        network = load_network(self.record, self.input_shape, self.classes)
        return TorchClassifier(network, self.record["name"], ScanSettings(input_shape=self.input_shape))


@dataclass(frozen=True, kw_only=True)
class _Job(NetworkJob):
    kind: str
    families: tuple[str, ...]
    prototypes: np.ndarray[Any, Any] | None

    def path(self, family: str) -> Path:
        """Where the result of one family is kept."""
        of = "" if self.prototypes is None else f"-{digest(self.prototypes)}"
        folder = Path(self.record["folder"]) / "reversal" / f"{self.kind}{of}.{family}.seed{self.seed}"
        return folder / f"{self.record['name']}.npz"

    def missing(self) -> tuple[str, ...]:
        """The families that have no result yet."""
        return tuple(family for family in self.families if not self.path(family).exists())


def digest(images: np.ndarray[Any, Any]) -> str:
    """Eight hexadecimal digits that tell one pack's images from another's."""
    return hashlib.sha256(images.tobytes()).hexdigest()[:8]


@cache
def clean_samples(folder: Path) -> Samples:
    """A hundred test images of a zoo's task, evenly spread; no network of the zoo was trained on them."""
    test = read_images(folder).test
    chosen = torch.linspace(0, len(test) - 1, SAMPLES).long()
    images = test.images[chosen].numpy().astype(np.float32) / np.float32(255)
    return Samples(images=images, labels=test.labels[chosen].numpy())


def reversal_margins(
    zoo: Zoo,
    records: Sequence[dict[str, Any]],
    *,
    kind: str,
    workers: int,
    seed: int,
    families: Sequence[str] = DEFAULT_FAMILIES,
    prototypes: np.ndarray[Any, Any] | None = None,
) -> Margins:
    """The margins of each network, float ``(N, slots, K + 1)`` for each family, and "seconds", float ``(N,)``.

    ``kind``: "samples", clean images of the task, or "prototypes", variants of the images of a detector pack, which
    are given. NaN where a network cannot be assessed. Results are kept in the zoo's folder and not computed twice.
    """
    jobs = [
        _Job(
            record=record,
            input_shape=zoo.input_shape,
            classes=zoo.classes,
            kind=kind,
            seed=seed,
            families=tuple(families),
            prototypes=prototypes if kind == "prototypes" else None,
        )
        for record in records
    ]
    missing = [job for job in jobs if job.missing()]
    work_off(_search, missing, workers=workers, description="Reversing triggers")
    return _stacked(jobs)


def _stacked(jobs: Sequence[_Job]) -> Margins:
    margins: Margins = {}
    seconds = np.zeros(len(jobs))
    for family in jobs[0].families:
        parts = [_read(job.path(family)) for job in jobs]
        margins[family] = stacked([part["margins"] for part in parts])
        seconds += [float(part["seconds"]) for part in parts]
    return {**margins, "seconds": seconds}


def _read(path: Path) -> Margins:
    with np.load(path, allow_pickle=False) as archive:
        return dict(archive)


def _search(job: _Job) -> None:
    classifier = job.classifier()
    samples = clean_samples(Path(job.record["folder"])) if job.kind == "samples" else None
    for family in job.missing():
        started = time.perf_counter()
        try:
            reversal = reverse(classifier, samples, seed=job.seed, families=(family,), prototypes=job.prototypes)
            margins = reversal.found[family].margins.numpy()
        except NotAssessableError:
            margins = REFUSED
        taken = time.perf_counter() - started
        buffer = io.BytesIO()
        np.savez(buffer, seconds=np.array(taken), margins=margins)
        write_atomically(job.path(family), buffer.getvalue())


def stacked(parts: Sequence[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """The tables of several networks as one array; NaN for the networks that were refused."""
    shape = max((part.shape for part in parts), key=len)
    return np.stack([np.full(shape, np.nan) if part.shape != shape else part for part in parts])
