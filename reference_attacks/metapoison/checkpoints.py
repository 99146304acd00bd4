"""A crafting's state after its last step, as one file from which it goes on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from pytest_backdoor.files import write_atomically

from ..zoo.recipe import Precision
from .problem import Problem
from .settings import CraftingPlan

FILE = "crafting.safetensors"
# What changes a result by rounding only may differ when a crafting goes on.
NO_MATTER = ("chunk", "checkpoint")


def fingerprint(problem: Problem, plan: CraftingPlan, seed: int, precision: Precision) -> str:
    """What a checkpoint has to agree in with the crafting that goes on from it."""
    settings = {name: value for name, value in asdict(plan).items() if name not in NO_MATTER}
    digest = hashlib.sha256(json.dumps([settings, seed, precision, problem.classes]).encode())
    for tensor in (
        problem.clean.images,
        problem.clean.labels,
        problem.poisons,
        problem.targets,
        problem.true_labels,
        problem.labels,
    ):
        digest.update(f"{tuple(tensor.shape)}".encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


class Checkpoint:
    """The file in ``folder``, and the ``fingerprint`` of the crafting that it belongs to."""

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self.folder = folder
        self._fingerprint = fingerprint

    @property
    def path(self) -> Path:
        """Where it is."""
        return self.folder / FILE

    def load(self) -> dict[str, torch.Tensor] | None:
        """What was saved last, on the CPU; None if nothing was. Raises ValueError for another crafting's file."""
        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                if (file.metadata() or {}).get("fingerprint") != self._fingerprint:
                    raise ValueError(
                        f"{self.path} is of a crafting with other images, settings or another seed; choose another "
                        "folder, or remove the file."
                    )
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        except SafetensorError as error:
            raise ValueError(f"{self.path} is no checkpoint ({error}); remove it to craft anew.") from error

    def save(self, everything: dict[str, torch.Tensor]) -> None:
        """Put ``everything`` in the place of what was saved before."""
        on_cpu = {name: value.detach().cpu().contiguous() for name, value in everything.items()}
        write_atomically(self.path, save(on_cpu, metadata={"fingerprint": self._fingerprint}))
