"""A folder of digit networks: what is missing is trained; a run that was killed goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from pytest_backdoor.files import write_atomically

from ..networks import BadNetsMnistNetwork
from ..parallel import work_off
from ..zoo.images import prepare_images, read_images
from ..zoo.machine import Machine
from ..zoo.recipe import grouped
from .evaluate import Measurement, measure
from .export import safetensors_bytes
from .many import DigitMember, initial_network, train_together


@dataclass(frozen=True, kw_only=True)
class DigitFolder:
    """Networks of one seed below ``path``: ``NAME.safetensors``, and ``NAME.json`` with recipe and confusion counts."""

    path: Path
    seed: int
    machine: Machine

    def build(self, members: Sequence[DigitMember], data_root: str | None) -> None:
        """Train and measure every member that is not there yet; each network is written as soon as it is finished.

        Raises DataNotFoundError, and ValueError if the folder holds a network of another recipe.
        """
        prepare_images("mnist", data_root, self.path)
        baselines = [member.baseline for member in members if member.baseline is not None]
        for wave in (baselines, members):
            groups = grouped(list(dict.fromkeys(wave)), self.machine.group)
            missing = [group for group in groups if not all(self.is_done(member) for member in group)]
            work_off(partial(_train, self), missing, workers=self.machine.workers, description="Training digits")

    def is_done(self, member: DigitMember) -> bool:
        """Whether the network is there. Raises ValueError if another one is there under its name."""
        path = self._record_path(member)
        if not path.exists():
            return False
        if json.loads(path.read_text())["recipe"] != self._recipe(member):
            raise ValueError(f"{path} tells of a network of another recipe; choose an empty folder for the networks.")
        return True

    def measurement(self, member: DigitMember) -> Measurement:
        """What the finished network of ``member`` does on clean and on backdoored test images."""
        record = json.loads(self._record_path(member).read_text())
        backdoored = record["backdoored"]
        return Measurement(
            clean=torch.tensor(record["clean"]),
            backdoored=None if backdoored is None else torch.tensor(backdoored),
            attack=member.attack,
        )

    def network(self, member: DigitMember) -> BadNetsMnistNetwork:
        """The finished network of ``member``, in evaluation mode."""
        network = BadNetsMnistNetwork()
        network.load_state_dict(load_file(self._record_path(member).with_suffix(".safetensors")))
        return network.eval()

    def starting_point(self, member: DigitMember) -> BadNetsMnistNetwork:
        """What the training of ``member`` starts from: its baseline, which is there, or random weights."""
        return initial_network(member, self.seed) if member.baseline is None else self.network(member.baseline)

    def keep(self, member: DigitMember, network: BadNetsMnistNetwork, measured: Measurement) -> None:
        """Write the network of ``member`` and what it does."""
        path = self._record_path(member)
        record = {
            "recipe": self._recipe(member),
            "clean": measured.clean.tolist(),
            "backdoored": None if measured.backdoored is None else measured.backdoored.tolist(),
        }
        write_atomically(path.with_suffix(".safetensors"), safetensors_bytes(network))
        # The record is written last: a network counts as trained only once both files are whole.
        write_atomically(path, json.dumps(record).encode())

    def _record_path(self, member: DigitMember) -> Path:
        return self.path / f"seed-{self.seed}" / f"{member.name}.json"

    def _recipe(self, member: DigitMember) -> dict[str, Any]:
        return member.recipe(self.seed, self.machine.precision)


def _train(folder: DigitFolder, group: list[DigitMember]) -> None:
    images, machine = read_images(folder.path), folder.machine
    networks = [folder.starting_point(member) for member in group]
    train_together(group, networks, images.train, seed=folder.seed, device=machine.device, precision=machine.precision)
    for member, network in zip(group, networks, strict=True):
        if not folder.is_done(member):
            folder.keep(member, network, measure(network, images.test, member.backdoor))
