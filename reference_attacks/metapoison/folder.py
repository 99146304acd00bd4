"""Poisons and victims of many trials as a folder that a run goes on with where it stopped."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import nn

from pytest_backdoor.files import write_atomically

from ..parallel import work_off
from ..setting_file import keep_setting
from ..subsets import evenly_spread
from ..training import accuracy
from ..zoo.images import prepare_images, read_images
from ..zoo.machine import Machine
from .building import craft_poisons, train_jobs
from .cases import new_network, train_reference
from .images import Images, choose_images
from .poison_files import TASK
from .problem import Problem
from .runs import VictimRun, as_jobs, grouped
from .settings import CraftingPlan
from .trials import Trial, choose_targets, make_problem
from .victims import VictimTraining, varied


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all trials of a folder have in common.

    ``classes``: of CIFAR-10, by their numbers; trials call them by their place here. ``train_images``: of the training
    set, as many of each class. ``evaluation_images``: test images for the validation accuracy, at most.
    ``crafting``: of the poisons, whose bound is the trial's. ``snapshots``: craft steps after which the poisons are
    kept, beside the finished ones. ``victims``: their training. ``other_network``: of the variant "architecture".
    """

    classes: tuple[int, ...] = tuple(range(10))
    train_images: int = 50_000
    evaluation_images: int = 10_000
    crafting: CraftingPlan = field(default_factory=CraftingPlan)
    snapshots: tuple[int, ...] = ()
    victims: VictimTraining = field(default_factory=VictimTraining)
    other_network: str = "vgg"


@dataclass(frozen=True, kw_only=True)
class MetaPoisonFolder:
    """Everything of one seed and setting below ``path``.

    ``images.safetensors`` is shared by all settings of the folder; ``NAME/`` holds one setting: ``setting.json``,
    ``reference.safetensors``, the clean network that chooses targets, ``poisons/TRIAL.safetensors`` with what was seen
    while they were crafted in ``TRIAL.json``, and ``victims/RUN.json`` for each victim, with its weights in
    ``RUN.safetensors`` where they are kept.
    """

    path: Path
    name: str
    setting: Setting
    seed: int
    machine: Machine

    def build(self, runs: Sequence[VictimRun], data_root: str | None) -> None:
        """Craft the poisons and train and measure the victims that are not there yet, in this order.

        Raises DataNotFoundError, and ValueError for results of another setting, and for runs that do not fit it.
        """
        self.prepare(data_root)
        missing = [run for run in dict.fromkeys(runs) if not self.is_done(run)]
        self._check(missing)
        trials = list(dict.fromkeys(run.trial for run in missing if run.trial.arm == "poisoned"))
        self.craft([trial for trial in trials if not self.poisons_path(trial).exists()])
        groups = grouped(as_jobs(missing), self.machine.group)
        work_off(partial(train_jobs, self), groups, workers=self.machine.workers, description="Training victims")

    def prepare(self, data_root: str | None) -> None:
        """Decode the images and train the clean network that chooses targets, unless both are there."""
        keep_setting(self.path / self.name, self.setting, self.seed)
        prepare_images(TASK, data_root, self.path)
        self._train_reference()

    def craft(self, trials: Sequence[Trial]) -> None:
        """Craft the poisons of ``trials``: one in each process, and what is then left by all processes together."""
        machine = self.machine
        several = min(machine.workers, self.setting.crafting.surrogates) if machine.device == "cpu" else 1
        alone = len(trials) - len(trials) % several
        work_off(
            partial(craft_poisons, self, 1), trials[:alone], workers=machine.workers, description="Crafting poisons"
        )
        for trial in trials[alone:]:
            craft_poisons(self, several, trial)

    def is_done(self, run: VictimRun) -> bool:
        """Whether the victim has been measured, and its weights are there if they are wanted."""
        return self._record_path(run).exists() and (not run.keep_weights or self._weights_path(run).exists())

    def record(self, run: VictimRun) -> dict[str, Any] | None:
        """The victim's record, see ``cases.train_cases``; None for one that is not done."""
        path = self._record_path(run)
        return json.loads(path.read_text()) if path.exists() else None

    def weights(self, run: VictimRun) -> dict[str, torch.Tensor]:
        """Weights and running statistics by name, each float ``(E + 1, ...)``: at the start and after each epoch."""
        return load_file(self._weights_path(run))

    def crafting(self, trial: Trial) -> dict[str, Any] | None:
        """What was seen while the trial's poisons were crafted: "history", one entry for each step, and "seconds"."""
        path = self.poisons_path(trial).with_name(f"{trial.name}.json")
        return json.loads(path.read_text()) if path.exists() else None

    def poisons(self, trial: Trial, step: int | None = None) -> torch.Tensor:
        """Uint8 ``(P, C, H, W)``: crafted poisons, finished or after ``step`` craft steps."""
        return load_file(self.poisons_path(trial))["images" if step is None else f"step/{step}"]

    def problem(self, trial: Trial) -> Problem:
        """The training set, the poisons' places and the targets of a trial."""
        images = self.images()
        return make_problem(trial, images.training, images.test, self.targets(trial), len(self.setting.classes))

    def targets(self, trial: Trial) -> torch.Tensor:
        """Int64 ``(T,)``: indices of the trial's targets among the test images."""
        return choose_targets(trial, self.reference(), self.images().test, self.seed)

    def images(self) -> Images:
        """What victims are trained and measured on."""
        return _images(self.path, self.setting.classes, self.setting.train_images, self.seed)

    def validation(self) -> torch.Tensor:
        """Int64 ``(V,)``: which test images the validation accuracy is of, but for a trial's targets."""
        return evenly_spread(len(self.images().test), self.setting.evaluation_images)

    def training(self, run: VictimRun) -> VictimTraining:
        """How the victim is trained."""
        return varied(self.setting.victims, run.variant, other_network=self.setting.other_network)

    def new_network(self, training: VictimTraining, purpose: str) -> nn.Module:
        """A network with the initial weights of that purpose."""
        images, classes = self.images().training, len(self.setting.classes)
        return new_network(images, classes, training.network, purpose, self.seed)

    def reference(self) -> nn.Module:
        """The clean network that chooses targets, in evaluation mode."""
        network = self.new_network(self.setting.victims, "reference")
        network.load_state_dict(load_file(self.path / self.name / "reference.safetensors"))
        return network.eval()

    def poisons_path(self, trial: Trial) -> Path:
        """Where a trial's crafted poisons are, or will be."""
        return self.path / self.name / "poisons" / f"{trial.name}.safetensors"

    def keep_poisons(self, trial: Trial, arrays: Mapping[str, torch.Tensor], values: dict[str, Any]) -> None:
        """Write what ``poisons`` and ``crafting`` read."""
        path = self.poisons_path(trial)
        values = {"trial": asdict(trial), **values}
        write_atomically(path.with_name(f"{trial.name}.json"), json.dumps(values).encode())
        write_atomically(path, save({name: value.contiguous() for name, value in arrays.items()}))

    def keep(self, run: VictimRun, values: dict[str, Any], weights: Mapping[str, torch.Tensor] | None) -> None:
        """Write a victim's record, and its weights if they are wanted; the record is written last."""
        if weights is not None:
            write_atomically(self._weights_path(run), save({name: part.contiguous() for name, part in weights.items()}))
        record = {"run": asdict(run), "precision": self.machine.precision, **values}
        write_atomically(self._record_path(run), json.dumps(record).encode())

    def _record_path(self, run: VictimRun) -> Path:
        return self.path / self.name / "victims" / f"{run.name}.json"

    def _weights_path(self, run: VictimRun) -> Path:
        return self._record_path(run).with_name(f"{run.name}.safetensors")

    def _check(self, runs: Sequence[VictimRun]) -> None:
        classes = range(len(self.setting.classes))
        for run in runs:
            trial = run.trial
            if not {trial.target_class, trial.poison_class, trial.wanted} <= set(classes):
                raise ValueError(f"The setting has classes 0 to {classes[-1]}; {trial.name} speaks of others.")
            if run.craft_step is not None and run.craft_step not in self.setting.snapshots:
                raise ValueError(
                    f"Poisons after craft step {run.craft_step} are not kept; name it among the snapshots."
                )

    def _train_reference(self) -> None:
        path = self.path / self.name / "reference.safetensors"
        if path.exists():
            return
        training, classes = self.setting.victims, len(self.setting.classes)
        network = train_reference(self.images().training, classes, training, seed=self.seed, machine=self.machine)
        share = accuracy(network, self.images().test.take(self.validation()))
        write_atomically(path.with_suffix(".json"), json.dumps({"validation_accuracy": share}).encode())
        write_atomically(path, save({name: value.contiguous() for name, value in network.state_dict().items()}))


@cache
def _images(path: Path, classes: tuple[int, ...], count: int, seed: int) -> Images:
    images = read_images(path)
    return choose_images(images.train, images.test, classes, count, seed)
