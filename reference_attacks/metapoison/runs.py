"""Victims as a list of jobs: what each is trained on, and which are trained together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .trials import Trial
from .victims import Variant


@dataclass(frozen=True, kw_only=True)
class VictimRun:
    """One victim of one trial.

    ``number``: of the initialisation and the order of batches, which are the same for all trials, arms and variants of
    this number, so that two of them differ by their training images alone. ``variant``: how it is trained.
    ``craft_step``: with the poisons as they were after so many craft steps, None for the finished ones.
    ``keep_weights``: whether its weights before the training and after each epoch are kept.
    """

    trial: Trial
    number: int
    variant: Variant = "baseline"
    craft_step: int | None = None
    keep_weights: bool = False

    def __post_init__(self) -> None:
        if self.craft_step is not None and self.trial.arm != "poisoned":
            raise ValueError("Only crafted poisons have craft steps.")

    @property
    def kind(self) -> str:
        """A name that victims have in common which differ by their numbers alone."""
        variant = "" if self.variant == "baseline" else f"-{self.variant.replace(' ', '-')}"
        step = "" if self.craft_step is None else f"-step-{self.craft_step}"
        return f"{self.trial.name}{variant}{step}"

    @property
    def name(self) -> str:
        """A file name, one for each victim."""
        return f"{self.kind}-victim-{self.number}"

    @property
    def case(self) -> CaseKey:
        """What victims share that differ by their weights alone."""
        return self.trial, self.craft_step


# What decides the training images and the targets of a victim.
CaseKey = tuple[Trial, int | None]
# One network; several runs only where they look at the same one, which was trained on clean images.
Job = tuple[VictimRun, ...]


def as_jobs(runs: Sequence[VictimRun]) -> list[Job]:
    """One job for each network that is to be trained: a clean one serves all trials at once."""
    jobs: dict[object, list[VictimRun]] = {}
    for run in dict.fromkeys(runs):
        shared = run.trial.arm == "clean"
        jobs.setdefault((run.variant, run.number) if shared else run, []).append(run)
    return [tuple(job) for job in jobs.values()]


def grouped(jobs: Sequence[Job], size: int) -> list[list[Job]]:
    """Groups of at most ``size`` networks that are trained in the same way, in the order of ``jobs``."""
    waiting: dict[Variant, list[Job]] = {}
    groups: list[list[Job]] = []
    for job in jobs:
        group = waiting.setdefault(job[0].variant, [])
        if not group:
            groups.append(group)
        group.append(job)
        if len(group) == size:
            del waiting[job[0].variant]
    return groups
