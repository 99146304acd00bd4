"""Poisons that steer the training of networks from any initialisation (Huang et al. 2020, §2.2, Algorithm 1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

from ..data import ImageSet
from ..networks import make_network
from ..zoo.recipe import Precision
from ..zoo.seeds import derived_generator
from .checkpoints import Checkpoint, fingerprint
from .perturbation import Perturbation, random_perturbation
from .problem import Problem
from .settings import CraftingPlan
from .stacks import Networks
from .surrogates import Surrogates
from .together import Group, Members
from .unrolling import Aim, Batch, MetaGradient, meta_gradient

__all__ = ["CraftStep", "Crafted", "CraftingPlan", "craft", "random_perturbation"]


@dataclass(frozen=True, kw_only=True)
class CraftStep:
    """What the surrogates saw in one craft step, averaged over them, their batches with poisons, and the targets.

    ``loss_before`` and ``loss_after``: cross-entropy of the wanted label before and after the unrolled steps.
    ``success``: the share that takes the target for the wanted label after them.
    """

    loss_before: float
    loss_after: float
    success: float


@dataclass(frozen=True, kw_only=True)
class Crafted:
    """Finished poisons.

    ``images``: uint8 ``(P, C, H, W)``, the additive part of the change within the bound after rounding, too.
    ``snapshots``: the images after each of the craft steps that were asked for, counted from 1; 0 is the start, random
    within the bound. ``history``: one for each craft step.
    """

    images: torch.Tensor
    snapshots: dict[int, torch.Tensor]
    history: list[CraftStep]


def craft(
    problem: Problem,
    plan: CraftingPlan,
    *,
    seed: int,
    folder: Path | None = None,
    device: str = "cpu",
    precision: Precision = "float32",
    group: Group | None = None,
    snapshots: Sequence[int] = (),
    on_step: Callable[[int, CraftStep], None] | None = None,
) -> Crafted:
    """Poisons for ``problem``, on the CPU.

    In each craft step every surrogate goes through one epoch of the clean training set, and every batch that holds
    poisons gives a meta-gradient for them; their mean over the surrogates moves the poisons once, by Adam, and they
    are projected onto what is allowed. Defaults of the plan, the start at random within the bound and the rates'
    courses are those of the authors' published code; for the differences see ``unrolling.meta_gradient``.

    ``folder``: holds a checkpoint after every craft step, from which an interrupted crafting of the same problem, plan
    and seed goes on, with any number of processes of as many threads each, and ends as it would have without the
    interruption. ``group``: the processes that share the surrogates; every one has to call this with the same
    arguments, on a device of its own, and gets the same poisons. ``on_step``: called with the number of steps done and
    what was seen.

    Raises ValueError for settings that do not fit, and where ``folder`` holds the checkpoint of another crafting.
    """
    plan.check(len(problem.clean))
    if any(not 0 <= step <= plan.steps for step in snapshots):
        raise ValueError(f"Snapshots are taken after steps 0 to {plan.steps}, not after {list(snapshots)}.")
    members = Members(group)
    if members.count > plan.surrogates:
        raise ValueError(f"{members.count} processes cannot share {plan.surrogates} surrogates; choose fewer workers.")
    crafting = _Crafting(problem, plan, seed, torch.device(device), precision, members)
    checkpoint = Checkpoint(folder, fingerprint(problem, plan, seed, precision)) if folder is not None else None
    return crafting.run(checkpoint, set(snapshots), on_step)


class _Crafting:
    """The state of one crafting in one of its processes."""

    def __init__(
        self,
        problem: Problem,
        plan: CraftingPlan,
        seed: int,
        device: torch.device,
        precision: Precision,
        members: Members,
    ) -> None:
        self.plan, self.members, self.device = plan, members, device
        channels, height, width = problem.clean.images.shape[1:]

        def make(weights_seed: int) -> torch.nn.Module:
            return make_network(plan.network, (channels, height, width), problem.classes, seed=weights_seed)

        clean = ImageSet(images=problem.clean.images.to(device), labels=problem.clean.labels.to(device))
        numbers = range(members.rank, plan.surrogates, members.count)
        networks = Networks(make(0), device=device, precision=precision)
        # The place of each training image among the poisons, -1 for the others.
        self.places = torch.full((len(problem.clean),), -1)
        self.places[problem.poisons] = torch.arange(len(problem.poisons))
        self.surrogates = Surrogates(networks, make, clean, self.places >= 0, plan, numbers, seed)
        size = plan.chunk or (1 if device.type == "cpu" else len(numbers))
        self.chunks = [slice(start, min(start + size, len(numbers))) for start in range(0, len(numbers), size)]
        generator = derived_generator(seed, "metapoison/perturbation")
        self.perturbation = Perturbation(problem.bases.to(device), plan, generator)
        self.aim = Aim(
            targets=problem.targets.to(device).float().div_(255),
            labels=problem.labels.to(device),
            objective=plan.objective,
            looks=plan.looks,
            statistics=plan.statistics,
        )
        self.history: list[CraftStep] = []
        self.snapshots: dict[int, torch.Tensor] = {}

    def run(
        self,
        checkpoint: Checkpoint | None,
        wanted: set[int],
        on_step: Callable[[int, CraftStep], None] | None,
    ) -> Crafted:
        kept = checkpoint.load() if checkpoint is not None else None
        if kept is not None:
            self._restore(kept)
        else:
            self.surrogates.stagger(self.chunks)
            if 0 in wanted:
                self.snapshots[0] = self.perturbation.rounded().cpu()
        for step in range(len(self.history), self.plan.steps):
            self.history.append(self._step(step))
            if step + 1 in wanted:
                self.snapshots[step + 1] = self.perturbation.rounded().cpu()
            if checkpoint is not None:
                everything = self._state()
                if self.members.rank == 0:
                    checkpoint.save(everything)
            if on_step:
                on_step(step + 1, self.history[-1])
        lacking = wanted - set(self.snapshots)
        if lacking:
            raise ValueError(
                f"The checkpoint in {checkpoint.folder if checkpoint else None} lacks the images after steps "
                f"{sorted(lacking)}; choose another folder to craft anew."
            )
        taken = {step: self.snapshots[step] for step in sorted(wanted)}
        return Crafted(images=self.perturbation.rounded().cpu(), snapshots=taken, history=self.history)

    def _step(self, step: int) -> CraftStep:
        self.surrogates.renew(step)
        images = self.perturbation.images()
        # In float64, so that neither the order of summation nor the number of processes is seen in the result.
        gradient = torch.zeros_like(images, dtype=torch.float64)
        seen = torch.zeros(4, dtype=torch.float64, device=self.device)
        for chunk in self.chunks:
            self._epoch(chunk, step, images.detach(), gradient, seen)
        self.members.total(gradient)
        before, after, success, looks = self.members.total(seen).tolist()
        self.perturbation.step(images, (gradient / self.plan.surrogates).to(images.dtype), step)
        looks = max(looks, 1.0)
        return CraftStep(loss_before=before / looks, loss_after=after / looks, success=success / looks)

    def _epoch(
        self, chunk: slice, step: int, poisons: torch.Tensor, gradient: torch.Tensor, seen: torch.Tensor
    ) -> None:
        """One epoch of a chunk of the surrogates; what it finds is added to ``gradient`` and ``seen``."""
        batches, rates = self.surrogates.epoch(chunk, step)
        ahead = self.plan.unroll + (self.plan.statistics == "batch")
        window = [batches[number] for number in range(ahead)]
        for number in range(len(batches)):
            places = self.places[batches.chosen[number]]
            poisoned = (places >= 0).any(1)
            rows = (places.flatten() >= 0).nonzero()[:, 0]
            if len(rows):
                filled = rows.to(self.device), places.flatten()[rows].to(self.device)
                found = meta_gradient(
                    self.surrogates.networks,
                    self.surrogates.stack.part(chunk),
                    [_with_poisons(window[0], poisons, *filled), *window[1:]],
                    self.aim,
                    unroll=self.plan.unroll,
                    rates=rates,
                    checkpoint=self.plan.checkpoint,
                )
                gradient.index_add_(0, filled[1], found.gradient.flatten(0, 1)[filled[0]].double())
                seen += _seen(found, self.aim.labels, poisoned.to(self.device))
            self.surrogates.train(chunk, window[0], rates)
            window = [*window[1:], batches[number + ahead]]

    def _state(self) -> dict[str, torch.Tensor]:
        """All that the next steps depend on, of all processes, the same in each."""
        everything = {f"perturbation/{name}": value for name, value in self.perturbation.state().items()}
        for name, value in self.surrogates.state().items():
            whole = value.new_zeros(self.plan.surrogates, *value.shape[1:])
            whole[self.surrogates.numbers] = value
            everything[f"surrogates/{name}"] = self.members.total(whole)
        rows = [[one.loss_before, one.loss_after, one.success] for one in self.history]
        everything["history"] = torch.tensor(rows, dtype=torch.float64)
        return everything | {f"snapshots/{step}": images for step, images in self.snapshots.items()}

    def _restore(self, kept: dict[str, torch.Tensor]) -> None:
        def under(prefix: str) -> dict[str, torch.Tensor]:
            return {name.removeprefix(prefix): value for name, value in kept.items() if name.startswith(prefix)}

        self.perturbation.restore(under("perturbation/"))
        self.surrogates.restore(under("surrogates/"))
        self.history = [
            CraftStep(loss_before=before, loss_after=after, success=success)
            for before, after, success in kept["history"].tolist()
        ]
        self.snapshots = {int(step): images for step, images in under("snapshots/").items()}


def _with_poisons(batch: Batch, poisons: torch.Tensor, rows: torch.Tensor, places: torch.Tensor) -> Batch:
    """The batch with ``poisons[places]`` in its ``rows``, counted through all surrogates."""
    images = batch.images.clone(memory_format=torch.contiguous_format)
    images.view(-1, *images.shape[2:])[rows] = poisons[places]
    return Batch(images=images, labels=batch.labels)


def _seen(found: MetaGradient, labels: torch.Tensor, poisoned: torch.Tensor) -> torch.Tensor:
    """Float64 ``(4,)``: summed losses before and after, successes, and how many there are.

    ``poisoned``: bool ``(G,)``, which surrogates' batches held poisons; the others say nothing about them.
    """
    weights = poisoned[:, None].expand(found.after.shape[:2]).double()
    wanted = labels.expand(found.after.shape[:2])
    before, after = (
        cross_entropy(logits.flatten(0, 1), wanted.flatten(), reduction="none").view_as(weights)
        for logits in (found.before, found.after)
    )
    success = (found.after.argmax(-1) == wanted).double()
    # Products in place of selections, for which a GPU would have to be waited for.
    return torch.stack([(values * weights).sum() for values in (before.double(), after.double(), success, weights)])
