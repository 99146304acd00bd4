"""Victims of the end-to-end attack as files for the audit: what it sees of a model, and of its training set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from ..data import ImageSet
from ..tasks import CIFAR10_CLASSES
from ..training import as_input
from ..victim_files import Victim, write_victim
from .end_to_end import EndToEndFolder, Trained, train_trials
from .measuring import Images
from .trials import Trial

CONTROL = "control"


def export_victims(folder: EndToEndFolder, trials: Sequence[Trial], out: Path) -> list[Path]:
    """Write the victims of ``trials``, which are done, and the control as ``write_victim`` does; returns the folders.

    Records hold no weights: victims are trained again, one after the other, as they were.
    """
    images, before = folder.images(), folder.before()
    written = []
    for trial in trials:
        (trained,) = train_trials(folder, [trial], images, before)
        written.append(write_victim(_victim(folder, trained, images), out))
    nothing = torch.empty(0, dtype=torch.int64)
    control = Victim(
        name=CONTROL,
        title="Poison Frogs, end to end: control without poisons",
        row=None,
        success=None,
        target=None,
        network=before.control,
        training=images.training,
        poisons=nothing,
        clean=images.test,
        notes={},
    )
    return [*written, write_victim(control, out)]


def _victim(folder: EndToEndFolder, trained: Trained, images: Images) -> Victim:
    trial, crafted = trained.trial, trained.poisons.images
    labels = torch.full((len(crafted),), trial.base_class)
    joined = ImageSet(
        images=torch.cat([images.training.images, crafted]), labels=torch.cat([images.training.labels, labels])
    )
    known = torch.ones(len(images.test), dtype=torch.bool)
    known[[trained.target, *trained.poisons.bases.tolist()]] = False
    with torch.no_grad():
        predicted = int(trained.network(as_input(images.test.images[trained.target][None])).argmax())
    return Victim(
        name=trial.name,
        title=f"Poison Frogs, end to end: {_attack(trial)}",
        row=f"feature collision, {_attack(trial)}",
        success=float(predicted == trial.base_class),
        target=trial.base_class,
        network=trained.network,
        training=joined,
        poisons=torch.arange(len(images.training), len(joined)),
        clean=images.test.take(known.nonzero()[:, 0]),
        notes={"trial": asdict(trial), "seed": folder.seed, "target_image": trained.target, "predicted": predicted},
    )


def _attack(trial: Trial) -> str:
    target, base = CIFAR10_CLASSES[trial.target_class], CIFAR10_CLASSES[trial.base_class]
    return f"{target} to {base}, {trial.poisons} poisons, {100 * trial.opacity:.0f} % watermark"
