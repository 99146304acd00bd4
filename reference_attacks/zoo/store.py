"""Reading the networks of a zoo back, as one stack for batched evaluation."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch.func import functional_call

from ..networks import BadNetsMnistNetwork


@dataclass(frozen=True, kw_only=True)
class NetworkStack:
    """Several networks of one architecture, evaluated at once.

    ``weights``: every tensor of the state dict with the networks as first axis. ``records``: the manifest's entries,
    in the same order.
    """

    weights: dict[str, torch.Tensor]
    records: list[dict[str, Any]]

    def __len__(self) -> int:
        return len(self.records)

    @property
    def poisoned(self) -> torch.Tensor:
        """Bool ``(N,)``."""
        return torch.tensor([record["trigger"] is not None for record in self.records])

    def select(self, keep: torch.Tensor) -> NetworkStack:
        """The networks at the int64 indices ``keep``."""
        return NetworkStack(
            weights={name: value[keep] for name, value in self.weights.items()},
            records=[self.records[i] for i in keep.tolist()],
        )

    def logits(self, images: torch.Tensor, *, dropout: float = 0.0) -> torch.Tensor:
        """Float ``(N, M, classes)``: the logits of every network on ``images``, float ``(M, C, H, W)`` in [0, 1].

        ``dropout`` is the share of hidden units dropped in each network, differently for each image; the random
        numbers come from torch's default generator, which the caller seeds within ``torch.random.fork_rng``.
        """
        network = BadNetsMnistNetwork(dropout=dropout).train(dropout > 0)

        def one(weights: dict[str, torch.Tensor]) -> torch.Tensor:
            return functional_call(network, weights, (images,))

        logits: torch.Tensor = torch.vmap(one, randomness="different")(self.weights)
        return logits


def load_records(folder: Path) -> list[dict[str, Any]]:
    """The records of the finished networks of a zoo that passed its conditions, in the manifest's order.

    Each says in ``folder`` where it lies.
    """
    manifest = json.loads((folder / "manifest.json").read_text())
    return [{**record, "folder": str(folder)} for record in manifest["networks"] if record["kept"]]


def load_stack(records: list[dict[str, Any]]) -> NetworkStack:
    """The networks of ``records``, also of several zoos. Raises ValueError if there are none."""
    if not records:
        raise ValueError("The zoo holds no networks of one of the kinds that are needed; build a larger one.")
    states = [load_file(Path(record["folder"]) / "networks" / f"{record['name']}.safetensors") for record in records]
    return NetworkStack(
        weights={name: torch.stack([state[name] for state in states]) for name in states[0]}, records=records
    )
