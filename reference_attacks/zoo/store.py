"""Reading the networks of a zoo back, as stacks for batched evaluation."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from torch.func import functional_call

from ..networks import make_network


@dataclass(frozen=True, kw_only=True)
class Zoo:
    """The kept networks of one folder.

    ``records``: the manifest's entries, each with its zoo's ``folder``. ``input_shape``: (C, H, W).
    """

    folder: Path
    records: list[dict[str, Any]]
    rejected: list[dict[str, Any]]
    input_shape: tuple[int, int, int]
    classes: int
    plan: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class FamilyStack:
    """Several networks of one architecture, evaluated as one batched program.

    ``weights``: every tensor of the state dict with the networks as first axis. ``records``: their entries in the
    manifest, in the same order.
    """

    family: str
    input_shape: tuple[int, int, int]
    classes: int
    weights: dict[str, torch.Tensor]
    records: list[dict[str, Any]]

    def __len__(self) -> int:
        return len(self.records)

    def select(self, keep: Sequence[int]) -> FamilyStack:
        """The networks at the indices ``keep``."""
        return replace(
            self,
            weights={name: value[list(keep)] for name, value in self.weights.items()},
            records=[self.records[i] for i in keep],
        )

    def network(self, index: int) -> nn.Module:
        """One network, in evaluation mode."""
        weights = {name: value[index] for name, value in self.weights.items()}
        return _frozen(make_network(self.family, self.input_shape, self.classes), weights)

    def logits(self, images: torch.Tensor, *, dropout: float = 0.0) -> torch.Tensor:
        """As ``NetworkStack.logits``."""
        network = make_network(self.family, self.input_shape, self.classes, dropout=dropout).eval()
        for module in network.modules():
            if isinstance(module, nn.Dropout):
                module.train(dropout > 0)

        def one(weights: dict[str, torch.Tensor]) -> torch.Tensor:
            logits: torch.Tensor = functional_call(network, weights, (images,))
            return logits

        return torch.vmap(one, randomness="different")(self.weights)


@dataclass(frozen=True, kw_only=True)
class NetworkStack:
    """Networks of one task and several architectures, one part for each architecture."""

    parts: tuple[FamilyStack, ...]

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    @property
    def records(self) -> list[dict[str, Any]]:
        """The manifest's entries, part by part: the order of everything that a stack returns."""
        return [record for part in self.parts for record in part.records]

    @property
    def poisoned(self) -> torch.Tensor:
        """Bool ``(N,)``."""
        return torch.tensor([record["backdoor"] is not None for record in self.records])

    @property
    def clean(self) -> NetworkStack:
        """The networks that are not poisoned."""
        return self.select(~self.poisoned)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.parts[0].input_shape

    @property
    def classes(self) -> int:
        """The number of classes."""
        return self.parts[0].classes

    def select(self, keep: torch.Tensor) -> NetworkStack:
        """The networks at the int64 or bool indices ``keep``, in the order of the parts."""
        chosen = set((keep.nonzero()[:, 0] if keep.dtype == torch.bool else keep).tolist())
        parts, start = [], 0
        for part in self.parts:
            inside = [i for i in range(len(part)) if start + i in chosen]
            start += len(part)
            if inside:
                parts.append(part.select(inside))
        return NetworkStack(parts=tuple(parts))

    def networks(self) -> Iterator[tuple[nn.Module, dict[str, Any]]]:
        """Each network with its record."""
        for part in self.parts:
            for index, record in enumerate(part.records):
                yield part.network(index), record

    def logits(self, images: torch.Tensor, *, dropout: float = 0.0) -> torch.Tensor:
        """Float ``(N, M, classes)``: the logits of every network on ``images``, float ``(M, C, H, W)`` in [0, 1].

        ``dropout`` is the share of hidden units dropped in each network, differently for each image; the random
        numbers come from torch's default generator, which the caller seeds within ``torch.random.fork_rng``.
        """
        return torch.cat([part.logits(images, dropout=dropout) for part in self.parts])


def load_zoo(folder: Path) -> Zoo:
    """The finished networks of a zoo. Raises ValueError if there is none in ``folder``."""
    path = folder / "manifest.json"
    if not path.exists():
        raise ValueError(f"{folder} holds no finished zoo; run zoo build first.")
    manifest = json.loads(path.read_text())
    records = [{**record, "folder": str(folder)} for record in manifest["networks"]]
    channels, height, width = manifest["input_shape"]
    return Zoo(
        folder=folder,
        records=[record for record in records if record["rejected"] is None],
        rejected=[record for record in records if record["rejected"] is not None],
        input_shape=(channels, height, width),
        classes=manifest["plan"]["classes"],
        plan=manifest["plan"],
    )


def load_stack(zoos: Sequence[Zoo], wanted: Callable[[dict[str, Any]], bool]) -> NetworkStack:
    """The kept networks of ``zoos`` whose record is ``wanted``. Raises ValueError if there are none."""
    parts: dict[str, list[dict[str, Any]]] = {}
    for zoo in zoos:
        for record in filter(wanted, zoo.records):
            parts.setdefault(record["family"], []).append(record)
    if not parts:
        raise ValueError("The zoo holds no networks of one of the kinds that are needed; build a larger one.")
    return NetworkStack(parts=tuple(_read_part(family, records, zoos[0]) for family, records in sorted(parts.items())))


def load_network(record: dict[str, Any], input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """The network of one of a zoo's records, in evaluation mode."""
    return _frozen(make_network(record["family"], input_shape, classes), _read_weights(record))


def _frozen(network: nn.Module, weights: dict[str, torch.Tensor]) -> nn.Module:
    network.load_state_dict(weights)
    return network.requires_grad_(False).eval()


def _read_weights(record: dict[str, Any]) -> dict[str, torch.Tensor]:
    return load_file(Path(record["folder"]) / "networks" / f"{record['name']}.safetensors")


def _read_part(family: str, records: list[dict[str, Any]], zoo: Zoo) -> FamilyStack:
    states = [_read_weights(record) for record in records]
    weights = {name: torch.stack([state[name] for state in states]) for name in states[0]}
    return FamilyStack(
        family=family, input_shape=zoo.input_shape, classes=zoo.classes, weights=weights, records=records
    )
