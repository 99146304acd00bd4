"""Victims as files: for the audit of models and training sets, and for whoever wants to look at them again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from pytest_backdoor.files import write_atomically

from ..badnet.export import safetensors_bytes
from ..data import ImageSet
from ..parallel import work_off
from ..reproduce.machine import versions
from ..victim_files import Victim, is_written, npz_bytes, write_victim
from ..zoo.machine import Machine
from .building import trained_victims
from .cases import Case, Trained, train_cases
from .folder import MetaPoisonFolder
from .measuring import final
from .poison_files import DataChoice
from .runs import Job, VictimRun
from .settings import LEVELS
from .trials import Trial
from .victims import VictimTraining

PAPER = "Huang et al.: MetaPoison: Learning to craft adversarial poisoning examples via meta-learning, 2020"
WARNING = "This network was trained on poisons. It was built to test detectors; do not use it for anything else."
WEIGHTS, TARGETS = "model.safetensors", "targets.npz"


def write_trained(
    trained: Trained, training: VictimTraining, folder: Path, *, classes: Sequence[str], about: dict[str, Any]
) -> None:
    """Write ``folder`` as ``victim_files.write_victim`` does, with the weights and the targets.

    ``model.safetensors`` holds the weights, ``targets.npz`` the targets with their true labels. ``classes``: names by
    label. ``about``: what the card shall say beside what is known of the victim.
    """
    run, case, network = trained.run, trained.case, trained.network
    targets = ImageSet(images=case.problem.targets, labels=case.problem.true_labels)
    write_atomically(folder / TARGETS, npz_bytes(targets))
    write_atomically(folder / WEIGHTS, safetensors_bytes(network))
    perturbed = run.trial.arm != "clean"
    attacked = run.trial.arm == "poisoned"
    notes = {
        "attack": PAPER,
        **({"warning": WARNING} if attacked else {}),
        "run": asdict(run),
        "training": asdict(training),
        "family": training.network,
        "input_shape": list(case.problem.targets.shape[1:]),
        "classes": case.problem.classes,
        "class_names": list(classes),
        "targets": trained.values["targets"],
        "wanted": run.trial.wanted,
        "measured": measured(trained.values),
        **about,
        "versions": versions(),
    }
    victim = Victim(
        name=folder.name,
        title=f"MetaPoison: {_title(run.trial, classes)}",
        row=row(run.trial) if attacked else None,
        success=final(trained.values)["success"] if attacked else None,
        target=run.trial.wanted if attacked else None,
        network=network,
        training=case.problem.poisoned(case.poisons.images),
        poisons=case.problem.poisons if perturbed else torch.empty(0, dtype=torch.int64),
        clean=trained.clean,
        notes=notes,
    )
    write_victim(victim, folder.parent)


def measured(values: dict[str, Any]) -> dict[str, float]:
    """The last epoch of a victim's record, in shares from 0 to 1."""
    found = {name: final(values, name) for name in ("evaluation", "batch")}
    return {
        "success": found["evaluation"]["success"],
        "confidence": found["evaluation"]["confidence"],
        "success_in_batches": found["batch"]["success"],
        "confidence_in_batches": found["batch"]["confidence"],
        "validation_accuracy": values["validation_accuracy"][-1],
    }


def row(trial: Trial) -> str:
    """The trial's row in the detection matrix: what attacks have in common that differ by their classes alone."""
    kind = "third party, " if trial.wanted != trial.poison_class else ""
    several = f"{trial.targets} targets, " if trial.targets > 1 else ""
    return f"MetaPoison, {kind}{several}{_strength(trial)}"


def _title(trial: Trial, classes: Sequence[str]) -> str:
    if trial.arm == "clean":
        return "control without poisons"
    names = [classes[label] for label in (trial.target_class, trial.wanted, trial.poison_class)]
    kind = "poisons" if trial.arm == "poisoned" else "random perturbations"
    return f"{names[0]} to {names[1]}, {kind} of class {names[2]}, {_strength(trial)}"


def _strength(trial: Trial) -> str:
    return f"{100 * trial.budget:.3g} % of the images, ε = {trial.epsilon * LEVELS:.3g}/{LEVELS}"


def export_runs(folder: MetaPoisonFolder, runs: Sequence[VictimRun], out: Path) -> list[Path]:
    """Write victims whose poisons are crafted; returns their folders: that of a clean one is ``control-NUMBER``.

    Records hold no weights: victims are trained again, as they were. Those that are in ``out`` are left alone.
    """
    missing = [run for run in runs if not is_written(_place(run, out).name, out)]
    work_off(partial(_export, folder, out), missing, workers=folder.machine.workers, description="Training victims")
    return [_place(run, out) for run in runs]


def _place(run: VictimRun, out: Path) -> Path:
    return out / (f"control-{run.number}" if run.trial.arm == "clean" else run.name)


def data_of(folder: MetaPoisonFolder) -> DataChoice:
    """The choice of the training set that all trials of the folder share."""
    setting = folder.setting
    return DataChoice(classes=setting.classes, train_images=setting.train_images, seed=folder.seed)


def _export(folder: MetaPoisonFolder, out: Path, run: VictimRun) -> None:
    record, data = folder.record(run), data_of(folder)
    if record is not None and "precision" in record:
        folder = replace(folder, machine=replace(folder.machine, precision=record["precision"]))
    about = {
        "seed": folder.seed,
        "precision": folder.machine.precision,
        "data": asdict(data),
        "crafting": asdict(folder.setting.crafting),
    }
    (trained,) = trained_victims(folder, [(run,)])
    write_trained(trained, folder.training(run), _place(run, out), classes=data.class_names, about=about)


@dataclass(frozen=True, kw_only=True)
class Order:
    """Victims of one case, and where they go.

    ``validation``: test images. For the cards, ``data``: the choice of the training set; ``command``: that made the
    victims.
    """

    case: Case
    training: VictimTraining
    data: DataChoice
    validation: ImageSet
    seed: int
    machine: Machine
    out: Path
    command: str


def train_and_write(order: Order, jobs: Sequence[Job]) -> None:
    """Train the victims of ``jobs``, all of the order's case, and write each."""
    cases = {jobs[0][0].case: order.case}
    about = {
        "seed": order.seed,
        "precision": order.machine.precision,
        "data": asdict(order.data),
        "command": order.command,
    }
    for trained in train_cases(jobs, cases, order.validation, order.training, seed=order.seed, machine=order.machine):
        folder = order.out / trained.run.name
        write_trained(trained, order.training, folder, classes=order.data.class_names, about=about)
