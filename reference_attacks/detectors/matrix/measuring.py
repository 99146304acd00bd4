"""Scanning the models of a group; every model's findings are kept in a file of their own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pytest_backdoor import scan
from pytest_backdoor.calibration import shipped_packs
from pytest_backdoor.files import write_atomically
from pytest_backdoor.findings import ModelReport

from ...networks import make_network
from ...parallel import work_off
from .groups import Group, MatrixModel, is_task, shape_of

FIRST_SAMPLE, SAMPLES = 1000, 1000
# What is asked in which way; the checks that need no samples are asked once.
WAYS: dict[str, dict[str, tuple[str, ...]]] = {
    "classifier": {"without": ("litmus", "margin", "reversal"), "samples": ("reversal",)},
    "detector": {"samples": ("reversal",)},
}


@dataclass(frozen=True, kw_only=True)
class Scanning:
    """How the models of a group are scanned.

    ``root``: the folder that packs and samples are relative to. ``work``: where findings and samples are kept.
    """

    group: Group
    root: Path
    work: Path
    data_root: str | None
    seed: int

    @property
    def samples(self) -> Path | None:
        """The clean samples; those of a task are written by ``prepare``."""
        if self.group.samples is None:
            return None
        if is_task(self.group.samples):
            return self.work / f"samples-{self.group.samples}.npz"
        return (self.root / self.group.samples).resolve()

    def prepare(self) -> None:
        """Write the samples of a task, a thousand of its test images, unless they are there."""
        from ...tasks import load_task
        from ...victim_files import npz_bytes

        path = self.samples
        if path is None or self.group.samples is None or not is_task(self.group.samples) or path.exists():
            return
        test = load_task(self.group.samples, self.data_root)[1]
        write_atomically(path, npz_bytes(test.take(_drawn(test.labels))))

    def record_path(self, model: MatrixModel) -> Path:
        """Where the findings on a model are kept."""
        return self.work / self.group.name / f"{model.name}.json"


def _drawn(labels: torch.Tensor) -> torch.Tensor:
    """Which test images are samples; of images that come class by class, as CIFAR-10's, some of all classes."""
    if (labels.diff() >= 0).all():
        return torch.linspace(0, len(labels) - 1, min(SAMPLES, len(labels))).long()
    return torch.arange(FIRST_SAMPLE, FIRST_SAMPLE + SAMPLES)


def measure_group(scanning: Scanning, models: Sequence[MatrixModel], *, workers: int) -> list[dict[str, Any]]:
    """The findings on each of ``models``, in their order; models that were scanned before are not scanned again.

    A model that has changed since then is. Raises what scanning raises for wrong settings, and ValueError if a check
    ends in an error.
    """
    scanning.prepare()
    missing = [model for model in models if not _is_done(scanning, model)]
    work_off(partial(_measure, scanning), missing, workers=workers, description=f"Scanning {scanning.group.name}")
    return [json.loads(scanning.record_path(model).read_text(encoding="utf-8")) for model in models]


def _is_done(scanning: Scanning, model: MatrixModel) -> bool:
    path = scanning.record_path(model)
    return path.exists() and json.loads(path.read_text(encoding="utf-8"))["made_of"] == _made_of(scanning, model)


def _made_of(scanning: Scanning, model: MatrixModel) -> dict[str, Any]:
    """What the findings depend on, besides the checks themselves."""
    group, changed = scanning.group, model.path.stat()
    packs = [scanning.root / group.pack] if group.pack else shipped_packs() if group.kind == "classifier" else ()
    digests = [hashlib.sha256(pack.read_bytes()).hexdigest() for pack in packs]
    return {"model": [changed.st_mtime_ns, changed.st_size], "packs": digests, "seed": scanning.seed}


def _measure(scanning: Scanning, model: MatrixModel) -> None:
    made_of = _made_of(scanning, model)
    ways = {}
    for way, checks in WAYS[scanning.group.kind].items():
        data = scanning.samples if way == "samples" else None
        if way == "samples" and data is None:
            continue
        ways[way] = _summary(_scan(scanning, model, checks, data))
        _require_no_error(model, ways[way])
    record = {"name": model.name, "made_of": made_of, "ways": ways}
    write_atomically(scanning.record_path(model), f"{json.dumps(record, indent=1)}\n".encode())


def _require_no_error(model: MatrixModel, summary: dict[str, Any]) -> None:
    """Raise ValueError if a check failed to run: a model that was not looked at is no model that was not caught."""
    for check, finding in summary["findings"].items():
        if finding["outcome"] == "error":
            raise ValueError(f"{model.path} could not be scanned by {check}: {finding['summary']}")


def _scan(scanning: Scanning, model: MatrixModel, checks: tuple[str, ...], data: Path | None) -> ModelReport:
    settings: dict[str, Any] = {
        "checks": checks,
        "seed": scanning.seed,
        "data": None if data is None else str(data),
        "pack": scanning.group.pack,
        "timeout": 0,
    }
    if model.path.suffix == ".onnx":
        return scan(model.path, root=scanning.root, **settings).models[0]
    from safetensors.torch import load_file

    family, shape, classes = shape_of(scanning.group, model)
    network = make_network(family, shape, classes)
    network.load_state_dict(load_file(model.path))
    with torch.random.fork_rng(devices=[]):
        return scan(network.eval(), root=scanning.root, input_shape=shape, **settings).models[0]


def _summary(report: ModelReport) -> dict[str, Any]:
    """What is kept of a report: of each check what it measured and what it says, but no pictures."""
    return {
        "task": None if report.task is None else dict(report.task),
        "verdict": report.verdict.value,
        "findings": {
            finding.check: {
                "outcome": finding.outcome.value,
                "p_value": finding.p_value,
                "seconds": finding.seconds,
                "summary": finding.summary,
                "components": finding.evidence.get("components", {}),
                **{
                    name: finding.evidence[name]
                    for name in (
                        "pack",
                        "target_class",
                        "family",
                        "where",
                        "flipped",
                        "flipped_of",
                        "detections",
                        "anomaly_index",
                        "source_class",
                    )
                    if name in finding.evidence
                },
            }
            for finding in report.findings
        },
    }
