"""Victims of the end-to-end attack as files for the audit: what it sees of a model, and of its training set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from ..data import ImageSet
from ..tasks import CIFAR10_CLASSES
from ..training import as_input
from ..victim_files import PoisonedImages, Victim, is_written, write_training_set, write_victim
from .end_to_end import EndToEndFolder, Trained, find_poisons, train_trials
from .measuring import Images
from .poison_sets import PoisonSet
from .trials import Trial

CONTROL = "control"


def export_victims(folder: EndToEndFolder, trials: Sequence[Trial], out: Path) -> list[Path]:
    """Write the victims of ``trials``, which are done, and the control as ``write_victim`` does; returns all folders.

    Records hold no weights: victims are trained again, one after the other, as they were; those that are in ``out``
    already are not. Folders ``NAME-before`` hold the same training sets with the clean network that victims start from,
    which their owner has as well.
    """
    images, before = folder.images(), folder.before()
    written = []
    for trial in trials:
        if not is_written(trial.name, out):
            (trained,) = train_trials(folder, [trial], images, before)
            write_victim(_victim(folder, trained, images), out)
        earlier = out / f"{trial.name}-before"
        target, poisons = find_poisons(folder, trial, images, before)
        sets = _joined(trial, target, poisons, images)
        write_training_set(earlier, f"{_title(trial)}, by the network before", sets, before.clean, "before.onnx")
        written += [out / trial.name, earlier]
    control = Victim(
        name=CONTROL,
        title="Poison Frogs, end to end: control without poisons",
        row=None,
        success=None,
        target=None,
        network=before.control,
        training=images.training,
        poisons=torch.empty(0, dtype=torch.int64),
        clean=images.test,
        notes={},
    )
    return [*written, write_victim(control, out)]


def _victim(folder: EndToEndFolder, trained: Trained, images: Images) -> Victim:
    trial = trained.trial
    with torch.no_grad():
        predicted = int(trained.network(as_input(images.test.images[trained.target][None])).argmax())
    return Victim(
        name=trial.name,
        title=_title(trial),
        row=f"feature collision, {_attack(trial)}",
        success=float(predicted == trial.base_class),
        target=trial.base_class,
        network=trained.network,
        **vars(_joined(trial, trained.target, trained.poisons, images)),
        notes={"trial": asdict(trial), "seed": folder.seed, "target_image": trained.target, "predicted": predicted},
    )


def _joined(trial: Trial, target: int, poisons: PoisonSet, images: Images) -> PoisonedImages:
    """The training set, its poisons last; clean samples are all test images but the target and the bases."""
    labels = torch.full((len(poisons.images),), trial.base_class)
    joined = ImageSet(
        images=torch.cat([images.training.images, poisons.images]), labels=torch.cat([images.training.labels, labels])
    )
    unknown = torch.ones(len(images.test), dtype=torch.bool)
    unknown[[target, *poisons.bases.tolist()]] = False
    return PoisonedImages(
        training=joined,
        poisons=torch.arange(len(images.training), len(joined)),
        clean=images.test.take(unknown.nonzero()[:, 0]),
    )


def _title(trial: Trial) -> str:
    return f"Poison Frogs, end to end: {_attack(trial)}"


def _attack(trial: Trial) -> str:
    target, base = CIFAR10_CLASSES[trial.target_class], CIFAR10_CLASSES[trial.base_class]
    return f"{target} to {base}, {trial.poisons} poisons, {100 * trial.opacity:.0f} % watermark"
