"""What finished victims say of their targets: those of a folder of trials by their records, exported ones anew."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from safetensors.torch import load_file

from ..data import ImageSet
from ..networks import make_network
from ..reproduce.tables import table
from ..setting_file import SETTING
from ..training import as_input
from .exporting import TARGETS, WEIGHTS, measured
from .finished import finished_runs, read_run
from .measuring import BATCHES, View, Watch, predicted_on
from .runs import VictimRun

CARD = "model.json"
HEAD = ("victims of", "how many", "success", "confidence", "in batches", "confidence", "validation accuracy")
COLUMNS = ("success", "confidence", "success_in_batches", "confidence_in_batches", "validation_accuracy")


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """One victim, and what ``exporting.measured`` says of it."""

    run: VictimRun
    measured: dict[str, float]


def evaluate(path: Path) -> list[Evaluated]:
    """All victims below ``path``: of one setting's folder, of an exported victim, or of a folder of exported ones.

    Raises ValueError if there are none.
    """
    if (path / SETTING).exists():
        found = [Evaluated(run=run, measured=measured(record)) for run, record in finished_runs(path)]
    else:
        cards = [path / CARD] if (path / CARD).exists() else sorted(path.glob(f"*/{CARD}"))
        found = [_evaluate_files(card.parent) for card in cards if (card.parent / WEIGHTS).exists()]
    if not found:
        raise ValueError(f"{path} holds no victims of MetaPoison.")
    return found


def _evaluate_files(folder: Path) -> Evaluated:
    """Look at an exported victim again: at its targets, and at the images that lie beside it."""
    card = json.loads((folder / CARD).read_text(encoding="utf-8"))
    channels, height, width = card["input_shape"]
    network = make_network(card["family"], (channels, height, width), card["classes"])
    network.load_state_dict(load_file(folder / WEIGHTS))
    training, validation, targets = (_read(folder / name) for name in ("train.npz", "clean.npz", TARGETS))
    batch = card["training"]["batch"]
    drawn = torch.randint(len(training), (BATCHES, batch), generator=torch.Generator().manual_seed(0))
    view = View(
        targets=as_input(targets.images),
        wanted=torch.full_like(targets.labels, card["wanted"]),
        batches=torch.stack([as_input(training.images[chosen]) for chosen in drawn]),
        groups={},
        labels=validation.labels,
        judged=torch.ones(len(validation), dtype=torch.bool),
    )
    watch = Watch(network, view)
    watch.look(predicted_on(network, validation.images))
    return Evaluated(run=read_run(card["run"]), measured=measured(watch.values()))


def _read(path: Path) -> ImageSet:
    with np.load(path, allow_pickle=False) as arrays:
        images = torch.from_numpy(arrays["x"]).permute(0, 3, 1, 2).contiguous()
        return ImageSet(images=images, labels=torch.from_numpy(arrays["y"]))


def as_text(evaluated: Sequence[Evaluated], *, each: bool) -> str:
    """A table with a row for all victims of one kind, or for ``each`` victim."""
    kinds: dict[str, list[Evaluated]] = {}
    for one in evaluated:
        kinds.setdefault(one.run.name if each else one.run.kind, []).append(one)
    return table(HEAD, (_row(name, members) for name, members in kinds.items()))


def _row(name: str, members: Sequence[Evaluated]) -> list[str]:
    return [name, str(len(members)), *_shares(members)]


def _shares(members: Sequence[Evaluated]) -> Iterable[str]:
    return (f"{fmean(one.measured[column] for one in members):.1%}" for column in COLUMNS)
