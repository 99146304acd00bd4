"""The end-to-end attack (Shafahi et al. 2018, §4): victims of many trials, trained and measured as a list of jobs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save

from pytest_backdoor.files import write_atomically

from ..data import ImageSet
from ..networks import SmallAlexNet
from ..parallel import work_off
from ..setting_file import keep_setting
from ..subsets import stratified
from ..zoo.images import prepare_images, read_images
from ..zoo.machine import Machine
from ..zoo.seeds import derived_generator
from .clean_network import clean_network, read_clean_network
from .crafting import CraftingPlan
from .last_layers import angles_between
from .measuring import Before, Images, clean_accuracy, measure_victim
from .poison_sets import PoisonSet, trial_poisons
from .trials import Trial, choose_target
from .victims import PoisonedSet, VictimTraining, boundary, train_victims

TASK = "cifar10"
# The paper's β for CIFAR-10 is 0.1 (§4.1), which we read as for pixels in [0, 1]: for 192 features and 3,072 numbers in
# an image, this β0 of a plan, which is for pixels from 0 to 255, comes to it.
SIMILARITY = 0.1 / (255 * 192 / 3072) ** 2


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all trials of a folder have in common.

    ``clean_steps``: of the clean network's training. ``train_images``: clean images of a victim, 50,000 in the paper.
    ``evaluation_images``: test images for the clean accuracy. ``crafting``: of the poisons.
    """

    clean_steps: int = 3000
    train_images: int = 50_000
    evaluation_images: int = 10_000
    victims: VictimTraining = field(default_factory=VictimTraining)
    crafting: CraftingPlan = field(default_factory=lambda: CraftingPlan(iterations=12_000, similarity=SIMILARITY))


@dataclass(frozen=True, kw_only=True)
class EndToEndFolder:
    """Everything of one seed and setting below ``path``; a run that was killed goes on where it stopped.

    ``images.safetensors`` and ``clean.*`` are shared by all settings of the folder; ``NAME/`` holds one setting:
    ``control.safetensors``, ``poisons/SET.safetensors``, and ``victims/TRIAL.json``, one for each victim.
    """

    path: Path
    name: str
    setting: Setting
    seed: int
    machine: Machine

    def build(self, trials: Sequence[Trial], data_root: str | None) -> None:
        """Train and measure the victim of every trial that is not there yet, in this order.

        Raises DataNotFoundError, and ValueError if the folder holds results of another setting.
        """
        keep_setting(self.path / self.name, self.setting, self.seed)
        images = prepare_images(TASK, data_root, self.path)
        clean_network(self.path, images, steps=self.setting.clean_steps, seed=self.seed, machine=self.machine)
        self._train_control()
        groups = _grouped([trial for trial in dict.fromkeys(trials) if not self.is_done(trial)], self.machine.group)
        work_off(partial(_work, self), groups, workers=self.machine.workers, description="Training victims")

    def is_done(self, trial: Trial) -> bool:
        """Whether the trial's victim has been measured."""
        return self._record_path(trial).exists()

    def record(self, trial: Trial) -> dict[str, Any] | None:
        """What ``measuring.measure_victim`` found, None for a trial that is not done."""
        path = self._record_path(trial)
        return json.loads(path.read_text()) if path.exists() else None

    def images(self) -> Images:
        """What victims are trained and measured on."""
        training = _clean_images(self.path, self.setting.train_images, self.seed)
        test = read_images(self.path).test
        return Images(training=training, test=test, evaluated=self.setting.evaluation_images)

    def before(self) -> Before:
        """The clean network and the control, which was trained like a victim but on clean images alone."""
        images = read_images(self.path)
        arrays = load_file(self.path / self.name / "control.safetensors")
        layers = arrays.pop("last_layers")
        control = read_clean_network(self.path, images)
        control.load_state_dict(arrays)
        clean = read_clean_network(self.path, images)
        return Before(clean=clean, control=control.eval(), control_layers=layers)

    def keep(self, trial: Trial, values: dict[str, Any]) -> None:
        """Write a victim's record."""
        write_atomically(self._record_path(trial), json.dumps({"trial": asdict(trial), **values}).encode())

    def _record_path(self, trial: Trial) -> Path:
        return self.path / self.name / "victims" / f"{trial.name}.json"

    def _train_control(self) -> None:
        path = self.path / self.name / "control.safetensors"
        if path.exists():
            return
        network, layers, images = read_clean_network(self.path, read_images(self.path)), [], self.images()
        accuracies = {"clean": clean_accuracy(network, images)}

        def keep_layer(_: int) -> None:
            layer = network.output
            layers.append(torch.cat([layer.weight, layer.bias[:, None]], dim=1).detach().cpu().clone())

        generator = derived_generator(self.seed, "control/batches")
        training = self.setting.victims
        train_victims(
            [network], images.training, [None], training, [generator], machine=self.machine, on_epoch=keep_layer
        )
        accuracies["control"] = clean_accuracy(network, images)
        write_atomically(path.with_suffix(".json"), json.dumps({"clean_accuracy": accuracies}).encode())
        weights = {name: value.contiguous() for name, value in network.state_dict().items()}
        write_atomically(path, save({**weights, "last_layers": torch.stack(layers)}))


def _grouped(trials: Sequence[Trial], size: int) -> list[list[Trial]]:
    """Groups of at most ``size`` victims with as many poisons each."""
    waiting: dict[int, list[Trial]] = {}
    groups: list[list[Trial]] = []
    for trial in trials:
        group = waiting.setdefault(trial.poisons, [])
        if not group:
            groups.append(group)
        group.append(trial)
        if len(group) == size:
            del waiting[trial.poisons]
    return groups


@cache
def _clean_images(path: Path, count: int, seed: int) -> ImageSet:
    return stratified(read_images(path).train, count, derived_generator(seed, "training images"))


def _work(folder: EndToEndFolder, trials: list[Trial]) -> None:
    """Craft the poisons of a group, train its victims, measure each."""
    images, before = folder.images(), folder.before()
    for one in train_trials(folder, trials, images, before):
        values = measure_victim(one.trial, one.target, one.poisons, one.network, before, images)
        folder.keep(one.trial, {**values, "rotation": _rotation(one.trial, one.normals, before)})


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The victim of one trial: its ``target``, an index of test images, ``poisons``, and ``network`` on the CPU.

    ``normals``: float ``(193,)`` each, of the last layer's boundary between base and target class, by epoch.
    """

    trial: Trial
    target: int
    poisons: PoisonSet
    network: SmallAlexNet
    normals: list[torch.Tensor]


def train_trials(folder: EndToEndFolder, trials: Sequence[Trial], images: Images, before: Before) -> list[Trained]:
    """Craft the poisons of ``trials``, as many for each, where the folder does not hold them, and train the victims.

    All randomness is drawn from the folder's seed and the trial's name, so a victim can be trained again.
    """
    targets, sets = _targets_and_poisons(folder, trials, images, before)
    networks = [deepcopy(before.clean) for _ in trials]
    normals: list[list[torch.Tensor]] = [[] for _ in trials]

    def keep_normals(_: int) -> None:
        for kept, network, trial in zip(normals, networks, trials, strict=True):
            kept.append(boundary(network, trial.base_class, trial.target_class))

    train_victims(
        networks,
        images.training,
        [PoisonedSet(images=one.images, label=trial.base_class) for one, trial in zip(sets, trials, strict=True)],
        folder.setting.victims,
        [derived_generator(folder.seed, f"{trial.name}/batches") for trial in trials],
        machine=folder.machine,
        on_epoch=keep_normals,
    )
    parts = zip(trials, targets, sets, networks, normals, strict=True)
    return [
        Trained(trial=trial, target=target, poisons=poisons, network=network.eval(), normals=turned)
        for trial, target, poisons, network, turned in parts
    ]


def find_poisons(folder: EndToEndFolder, trial: Trial, images: Images, before: Before) -> tuple[int, PoisonSet]:
    """The target of a trial, an index of test images, and its poisons, crafted if the folder does not hold them."""
    targets, sets = _targets_and_poisons(folder, [trial], images, before)
    return targets[0], sets[0]


def _targets_and_poisons(
    folder: EndToEndFolder, trials: Sequence[Trial], images: Images, before: Before
) -> tuple[list[int], list[PoisonSet]]:
    targets = [choose_target(trial, before.clean, images.test, folder.seed) for trial in trials]
    sets = trial_poisons(
        folder.path / folder.name / "poisons",
        list(zip(trials, targets, strict=True)),
        before.clean,
        images.test,
        folder.setting.crafting,
        seed=folder.seed,
        device=folder.machine.device,
    )
    return targets, sets


def _rotation(trial: Trial, normals: Sequence[torch.Tensor], before: Before) -> dict[str, list[float]]:
    """Degrees by epoch between the boundary of a victim and that of the control at this epoch, and of the start."""
    start = boundary(before.clean, trial.base_class, trial.target_class)
    controls = before.control_layers.double()
    pairs = zip(normals, controls[:, trial.base_class] - controls[:, trial.target_class], strict=True)
    return {
        "from_control": [round(float(angles_between(normal, control)), 4) for normal, control in pairs],
        "from_start": [round(float(angles_between(normal, start)), 4) for normal in normals],
    }
