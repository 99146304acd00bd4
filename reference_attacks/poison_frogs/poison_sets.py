"""The poisons of trials, crafted together and kept as files."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save

from pytest_backdoor.files import write_atomically

from ..data import ImageSet
from ..networks import SmallAlexNet
from .crafting import CraftingPlan, craft, measured, watermarked
from .trials import Trial, choose_bases

CRAFTED_AT_ONCE_ON_GPU = 4096


@dataclass(frozen=True, kw_only=True)
class PoisonSet:
    """The P poisons of one trial.

    ``images``: uint8 ``(P, C, H, W)``. ``bases``: int64 ``(P,)``, indices among the test images. ``distances``:
    ‖f(p) − f(t)‖ before the optimisation, of the watermarked bases, and after it, float32 ``(P, 2)``. ``iterations``:
    int64 ``(P,)``.
    """

    images: torch.Tensor
    bases: torch.Tensor
    distances: torch.Tensor
    iterations: torch.Tensor

    def first(self, count: int) -> PoisonSet:
        """The first ``count`` poisons."""
        return PoisonSet(**{name: getattr(self, name)[:count] for name in ARRAYS})


ARRAYS = ("images", "bases", "distances", "iterations")


def trial_poisons(
    folder: Path,
    trials: Sequence[tuple[Trial, int]],
    network: SmallAlexNet,
    test: ImageSet,
    plan: CraftingPlan,
    *,
    seed: int,
    device: str,
) -> list[PoisonSet]:
    """The poisons of ``trials``, each with the index of its target among the ``test`` images, on the CPU.

    What ``folder`` does not hold is crafted as one batch against the clean ``network``, and kept there. Poisons do not
    depend on each other, so trials with fewer of them take the first ones, and trials with more add to them.
    """
    kept = {trial.poison_set: _read(folder / f"{trial.poison_set}.safetensors") for trial, _ in trials}
    most = {name: max(t.poisons for t, _ in trials if t.poison_set == name) for name in kept}
    lacking = [
        (replace(trial, poisons=most[name]), target, 0 if kept[name] is None else len(kept[name].images))
        for name, (trial, target) in {trial.poison_set: (trial, target) for trial, target in trials}.items()
    ]
    lacking = [one for one in lacking if one[2] < (one[0].poisons if one[0].diverse else 1)]
    fresh = _made(lacking, network, test, plan, seed, device) if lacking else []
    for (trial, _, _), made in zip(lacking, fresh, strict=True):
        kept[trial.poison_set] = _joined(kept[trial.poison_set], made)
        arrays = {name: getattr(kept[trial.poison_set], name).contiguous() for name in ARRAYS}
        write_atomically(folder / f"{trial.poison_set}.safetensors", save(arrays))
    return [_of_trial(kept[trial.poison_set], trial) for trial, _ in trials]


def _of_trial(kept: PoisonSet | None, trial: Trial) -> PoisonSet:
    assert kept is not None
    if trial.diverse:
        return kept.first(trial.poisons)
    return PoisonSet(**{name: getattr(kept, name)[:1].repeat_interleave(trial.poisons, 0) for name in ARRAYS})


def _made(
    lacking: Sequence[tuple[Trial, int, int]],
    network: SmallAlexNet,
    test: ImageSet,
    plan: CraftingPlan,
    seed: int,
    device: str,
) -> list[PoisonSet]:
    """The poisons of each trial, from the given number on; copies of one base are made once."""
    chosen = [choose_bases(trial, test, seed)[start : None if trial.diverse else 1] for trial, _, start in lacking]
    sizes = [len(some) for some in chosen]
    targets = torch.tensor([target for _, target, _ in lacking]).repeat_interleave(torch.tensor(sizes))
    wanted = test.images[targets]
    marked = torch.cat(
        [
            watermarked(test.images[some], test.images[target][None], trial.opacity)
            for some, (trial, target, _) in zip(chosen, lacking, strict=True)
        ]
    )
    optimised = torch.tensor([trial.optimised for trial, _, _ in lacking]).repeat_interleave(torch.tensor(sizes))
    images, distances, iterations = _optimised(network, marked, wanted, optimised, plan, device)
    parts = zip(*(value.split(sizes) for value in (images, distances, iterations)), chosen, strict=True)
    return [PoisonSet(images=i, distances=d, iterations=n, bases=b) for i, d, n, b in parts]


def _optimised(
    network: SmallAlexNet,
    marked: torch.Tensor,
    targets: torch.Tensor,
    optimised: torch.Tensor,
    plan: CraftingPlan,
    device: str,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images, distances ``(N, 2)`` and iterations, where ``optimised`` after Algorithm 1 from ``marked`` images."""
    frozen = deepcopy(network).to(device, memory_format=torch.channels_last).eval().requires_grad_(False)
    if device != "cpu":
        plan = replace(plan, batch=CRAFTED_AT_ONCE_ON_GPU)
    bases, wanted = marked.to(device), targets.to(device)
    still = measured(frozen.features, bases, bases, wanted, plan)
    images, distances = bases.clone(), torch.stack([still.distances, still.distances], dim=1)
    iterations = torch.zeros(len(bases), dtype=torch.int64, device=device)
    if optimised.any():
        made = craft(frozen.features, bases[optimised], wanted[optimised], plan)
        images[optimised], iterations[optimised] = made.images, made.iterations
        distances[optimised, 1] = made.distances
    return images.cpu(), distances.cpu(), iterations.cpu()


def _read(path: Path) -> PoisonSet | None:
    return PoisonSet(**load_file(path)) if path.exists() else None


def _joined(first: PoisonSet | None, second: PoisonSet) -> PoisonSet:
    if first is None:
        return second
    return PoisonSet(**{name: torch.cat([getattr(first, name), getattr(second, name)]) for name in ARRAYS})
