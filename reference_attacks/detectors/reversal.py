"""Scores of trigger reversal on the networks of a zoo: references of the reversal check, and the paper's baseline."""

from __future__ import annotations

import json
import multiprocessing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pytest_backdoor.checks.reversal import reverse
from pytest_backdoor.files import write_atomically
from pytest_backdoor.models import Samples, TorchClassifier
from pytest_backdoor.settings import ScanSettings

from ..zoo.images import read_images
from ..zoo.store import Zoo, load_network

SAMPLES = 400
KINDS = ("samples", "stand-ins")


@dataclass(frozen=True, kw_only=True)
class _Job:
    record: dict[str, Any]
    input_shape: tuple[int, int, int]
    classes: int
    kind: str
    seed: int

    @property
    def path(self) -> Path:
        """Where the result is kept."""
        return Path(self.record["folder"]) / "reversal" / f"{self.record['name']}.{self.kind}.seed{self.seed}.json"


@cache
def clean_samples(folder: Path) -> Samples:
    """Four hundred test images of a zoo's task, evenly spread; no network of the zoo was trained on them."""
    test = read_images(folder).test
    chosen = torch.linspace(0, len(test) - 1, SAMPLES).long()
    images = test.images[chosen].numpy().astype(np.float32) / np.float32(255)
    return Samples(images=images, labels=test.labels[chosen].numpy())


def reversal_scores(
    zoo: Zoo, records: list[dict[str, Any]], *, kind: str, workers: int, seed: int
) -> np.ndarray[Any, Any]:
    """Float ``(N,)``: the score of each network; kept in the zoo's folder and not computed twice.

    ``kind``: "samples", clean images of the task, or "stand-ins" where there are none.
    """
    from rich.progress import track

    jobs = [_Job(record=r, input_shape=zoo.input_shape, classes=zoo.classes, kind=kind, seed=seed) for r in records]
    missing = [job for job in jobs if not job.path.exists()]
    if missing:
        context = multiprocessing.get_context("spawn")
        with context.Pool(min(workers, len(missing)), initializer=torch.set_num_threads, initargs=(1,)) as pool:
            finished = pool.imap_unordered(_score, missing)
            for _ in track(finished, total=len(missing), description="Reversing triggers"):
                pass
    return np.array([json.loads(job.path.read_text())["score"] for job in jobs])


def _score(job: _Job) -> None:
    network = load_network(job.record, job.input_shape, job.classes)
    classifier = TorchClassifier(network, job.record["name"], ScanSettings(input_shape=job.input_shape))
    samples = clean_samples(Path(job.record["folder"])) if job.kind == "samples" else None
    reversal = reverse(classifier, samples, seed=job.seed)
    result = {
        "score": reversal.score,
        "target": reversal.smallest.target,
        "sizes": [trigger.size for trigger in reversal.triggers],
    }
    write_atomically(job.path, json.dumps(result).encode())
