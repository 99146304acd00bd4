"""One crafting in several processes of one machine, or as one of those that ``torchrun`` has started."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from ..zoo.recipe import Precision
from .crafting import Crafted, CraftStep, craft
from .problem import Problem
from .settings import CraftingPlan
from .together import Group, device_of, started_by_torchrun, torchrun_group, workers_group

Arguments = tuple[Problem, CraftingPlan, int, Path | None, str, Precision, tuple[int, ...]]


def is_first_process() -> bool:
    """Whether this process shows progress and writes results; only under ``torchrun`` there are others."""
    return not started_by_torchrun() or os.environ["RANK"] == "0"


def craft_together(
    problem: Problem,
    plan: CraftingPlan,
    *,
    seed: int,
    workers: int,
    folder: Path | None = None,
    device: str = "cpu",
    precision: Precision = "float32",
    snapshots: Sequence[int] = (),
    on_step: Callable[[int, CraftStep], None] | None = None,
) -> Crafted:
    """As ``crafting.craft``, by ``workers`` processes that this one starts and is one of.

    Where ``torchrun`` has started this process, its processes share the work, and ``workers`` does not matter. On a
    "cuda" device each process has a GPU of its own if there are as many. Raises ValueError as ``craft`` does, and
    RuntimeError where another process has died.
    """
    arguments: Arguments = (problem, plan, seed, folder, device, precision, tuple(snapshots))
    if started_by_torchrun():
        with torchrun_group(device) as group:
            return _take_part(group, int(os.environ["LOCAL_RANK"]), *arguments, on_step=on_step)
    if not 1 <= workers <= plan.surrogates:
        raise ValueError(
            f"{workers} processes cannot share {plan.surrogates} surrogates; choose from 1 to {plan.surrogates}."
        )
    if workers == 1:
        return _take_part(None, 0, *arguments, on_step=on_step)
    with workers_group(workers, device, _take_part, arguments) as group:
        return _take_part(group, 0, *arguments, on_step=on_step)


def _take_part(
    group: Group | None,
    rank: int,
    problem: Problem,
    plan: CraftingPlan,
    seed: int,
    folder: Path | None,
    device: str,
    precision: Precision,
    snapshots: tuple[int, ...],
    *,
    on_step: Callable[[int, CraftStep], None] | None = None,
) -> Crafted:
    own = device_of(rank, device)
    if own.startswith("cuda"):
        torch.cuda.set_device(own)
    return craft(
        problem,
        plan,
        seed=seed,
        folder=folder,
        device=own,
        precision=precision,
        group=group,
        snapshots=snapshots,
        on_step=on_step,
    )
