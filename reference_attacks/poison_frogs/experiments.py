"""The experiments of Poison Frogs (2018), §4, as lists of trials, in the full and in reduced sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..tasks import CIFAR10_CLASSES
from ..zoo.machine import Machine
from .end_to_end import EndToEndFolder, Setting
from .trials import Trial

BIRD_TO_DOG = (CIFAR10_CLASSES.index("bird"), CIFAR10_CLASSES.index("dog"))
AIRPLANE_TO_FROG = (CIFAR10_CLASSES.index("airplane"), CIFAR10_CLASSES.index("frog"))
# The settings of Figures 3 and 5a and of the ablation, and those of the bird's curves in Figure 5b.
POISONS, OPACITY, LOWER_OPACITY = 50, 0.3, 0.2


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How large the experiments are.

    ``name``: of the folder of their results. ``setting``: of all victims. ``trials``: random targets of each point of
    Figure 5b. ``outliers``: targets of Figure 5a. ``counts``: numbers of poisons in Figure 5b. ``ablated``: random
    targets of each row of the ablation.
    """

    name: str
    setting: Setting
    trials: int
    outliers: int
    counts: tuple[int, ...]
    ablated: int


FULL = Scale(name="full", setting=Setting(), trials=30, outliers=50, counts=(1, *range(5, 75, 5)), ablated=30)
# What two CPU cores can do in some hours: fewer clean images, fewer steps of crafting, fewer points of the curves. An
# epoch of a tenth of the images has a tenth of the steps, so the rate is ten times the paper's: at the paper's own,
# victims are not trained for long enough to learn the poisons.
REDUCED = Scale(
    name="reduced",
    setting=replace(
        FULL.setting,
        train_images=5_000,
        evaluation_images=2_000,
        victims=replace(FULL.setting.victims, learning_rate=1.85e-4),
        crafting=replace(FULL.setting.crafting, iterations=200),
    ),
    trials=30,
    outliers=30,
    counts=(1, 10, 30, 50, 70),
    ablated=30,
)
# Victims as in the paper: its images, and so its share of poisons, and its rate. Each takes ten times as long as a
# reduced one, so there are few of them; poisons are crafted as for the reduced ones.
PAPER_SCHEDULE = replace(
    FULL,
    name="paper-schedule",
    setting=replace(FULL.setting, crafting=REDUCED.setting.crafting),
    trials=10,
    outliers=10,
    ablated=10,
)
# Within ten minutes: its networks are poor, its numbers of trials are too low for conclusions.
SMALL = Scale(
    name="small",
    setting=replace(
        REDUCED.setting,
        clean_steps=600,
        train_images=2_000,
        evaluation_images=1_000,
        crafting=replace(FULL.setting.crafting, iterations=60),
    ),
    trials=3,
    outliers=3,
    counts=(1, 50),
    ablated=2,
)


SCALES = {scale.name: scale for scale in (FULL, REDUCED, PAPER_SCHEDULE, SMALL)}


def choose_scale(device: str, *, small: bool) -> Scale:
    """The full experiments on a GPU, the reduced ones on a CPU, where the full ones would take weeks."""
    if small:
        return SMALL
    return REDUCED if device == "cpu" else FULL


def with_train_images(scale: Scale, count: int) -> Scale:
    """The same experiments with another number of clean images, in a folder of their own."""
    setting = replace(scale.setting, train_images=count)
    return replace(scale, name=f"{scale.name}-{count}-images", setting=setting)


def open_folder(work: Path, scale: Scale, seed: int, machine: Machine) -> EndToEndFolder:
    """Where victims of this size and seed are kept below ``work``."""
    path = work / f"end-to-end-seed-{seed}"
    return EndToEndFolder(path=path, name=scale.name, setting=scale.setting, seed=seed, machine=machine)


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One curve of Figure 5b: classes of target and base, the watermark's opacity, and the numbers of poisons."""

    pair: tuple[int, int]
    opacity: float
    counts: tuple[int, ...]

    @property
    def label(self) -> str:
        """Such as ``bird to dog, 30 %``."""
        target, base = (CIFAR10_CLASSES[label] for label in self.pair)
        return f"{target} to {base}, {100 * self.opacity:.0f} %"

    def trials(self, poisons: int, count: int) -> list[Trial]:
        """The trials of one point."""
        return random_trials(self.pair, poisons=poisons, opacity=self.opacity, count=count)


def curves(scale: Scale) -> list[Curve]:
    """The curves of Figure 5b."""
    settings = ((BIRD_TO_DOG, OPACITY), (BIRD_TO_DOG, LOWER_OPACITY), (AIRPLANE_TO_FROG, OPACITY))
    return [Curve(pair=pair, opacity=opacity, counts=scale.counts) for pair, opacity in settings]


def random_trials(pair: tuple[int, int], *, poisons: int, opacity: float, count: int) -> list[Trial]:
    """Attacks on ``count`` random targets."""
    target, base = pair
    return [
        Trial(target_class=target, base_class=base, number=number, poisons=poisons, opacity=opacity)
        for number in range(count)
    ]


def main_trials(scale: Scale) -> list[Trial]:
    """Random birds and 50 poison dogs each: what the other experiments are compared with."""
    return random_trials(BIRD_TO_DOG, poisons=POISONS, opacity=OPACITY, count=scale.trials)


def outlier_trials(scale: Scale) -> list[Trial]:
    """Airplanes of which the clean network is least sure, and 50 poison frogs each (Figure 5a)."""
    trials = random_trials(AIRPLANE_TO_FROG, poisons=POISONS, opacity=OPACITY, count=scale.outliers)
    return [replace(trial, targets="outlier") for trial in trials]


def single_trials() -> list[Trial]:
    """One poison without a watermark (§4.1, Figure 3a)."""
    return random_trials(AIRPLANE_TO_FROG, poisons=1, opacity=0.0, count=1)


def ablation(scale: Scale) -> dict[str, list[Trial]]:
    """Each of the three ingredients left out (supplement), by what is left out."""
    complete = main_trials(scale)[: scale.ablated]
    return {
        "nothing": complete,
        "optimisation": [replace(trial, optimised=False) for trial in complete],
        "diversity of bases": [replace(trial, diverse=False) for trial in complete],
        "watermark": [replace(trial, opacity=0.0) for trial in complete],
    }


def all_trials(scale: Scale) -> list[Trial]:
    """Every trial of the paper's figures, those that decide most first."""
    first, *others = ([curve.trials(count, scale.trials) for count in curve.counts] for curve in curves(scale))
    lower = random_trials(BIRD_TO_DOG, poisons=POISONS, opacity=LOWER_OPACITY, count=scale.trials)
    groups = [
        main_trials(scale),
        outlier_trials(scale),
        single_trials(),
        *first,
        lower,
        *ablation(scale).values(),
        *(trials for curve in others for trials in curve),
    ]
    return unique([trial for trials in groups for trial in trials])


def unique(trials: Sequence[Trial]) -> list[Trial]:
    """Each trial once, in the order of first mention."""
    return list(dict.fromkeys(trials))
