"""Reference scores of trigger reversal: what it finds on the networks of a zoo."""

from __future__ import annotations

import json
import multiprocessing
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pytest_backdoor.checks.reversal import reverse
from pytest_backdoor.files import write_atomically
from pytest_backdoor.models import Samples, TorchClassifier
from pytest_backdoor.settings import ScanSettings

from ..data import load_mnist
from ..networks import BadNetsMnistNetwork
from ..zoo.store import load_stack

SAMPLES = 400


@cache
def clean_samples(root: str | None) -> Samples:
    """The first test images of MNIST, which no network of the zoo was trained on."""
    test = load_mnist(root, train=False)
    return Samples(
        images=test.images[:SAMPLES].numpy().astype(np.float32) / np.float32(255), labels=test.labels[:SAMPLES].numpy()
    )


def reversal_scores(
    records: list[dict[str, Any]], *, root: str | None, workers: int, seed: int
) -> list[dict[str, float]]:
    """For each network its scores "samples" and "stand-ins"; kept in its zoo's folder and not computed twice."""
    from rich.progress import track

    missing = [record for record in records if not _score_path(record, seed).exists()]
    context = multiprocessing.get_context("spawn")
    if missing:
        with context.Pool(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            jobs = ((record, root, seed) for record in missing)
            finished = pool.imap_unordered(_score, jobs)
            for _ in track(finished, total=len(missing), description="Reversing triggers"):
                pass
    return [json.loads(_score_path(record, seed).read_text())["scores"] for record in records]


def _score(job: tuple[dict[str, Any], str | None, int]) -> None:
    record, root, seed = job
    stack = load_stack([record])
    network = BadNetsMnistNetwork()
    network.load_state_dict({name: value[0] for name, value in stack.weights.items()})
    network.requires_grad_(False)
    settings = ScanSettings(input_shape=network.input_shape)
    classifier = TorchClassifier(network, record["name"], settings)
    found = {
        "samples": reverse(classifier, clean_samples(root), seed=seed),
        "stand-ins": reverse(classifier, None, seed=seed),
    }
    result = {
        "scores": {kind: reversal.score for kind, reversal in found.items()},
        "targets": {kind: reversal.smallest.target for kind, reversal in found.items()},
        "sizes": {kind: [trigger.size for trigger in reversal.triggers] for kind, reversal in found.items()},
    }
    write_atomically(_score_path(record, seed), json.dumps(result).encode())


def _score_path(record: dict[str, Any], seed: int) -> Path:
    return Path(record["folder"]) / "reversal" / f"{record['name']}.seed{seed}.json"
