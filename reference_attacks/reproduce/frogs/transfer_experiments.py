"""Which transfer-learning experiments Figures 1 and 2 take, at full and at reduced size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ...poison_frogs.crafting import CraftingPlan
from ...poison_frogs.extractors import ExtractorPlan
from ...poison_frogs.last_layers import LastLayerPlan
from ...poison_frogs.transfer import TransferPlan
from ...poison_frogs.transfer_folder import Experiment, TransferFolder
from ...zoo.machine import choose_machine
from ..parts import Settings, Values

DOG, FROG, SHIP = 5, 6, 8
YIELD, STOP = 13, 14
# Of each class. The paper has 900, for 2,048 features; with ours more attacks succeed where there are fewer, and each
# poison costs more accuracy.
TRAINING_IMAGES = 300
OTHER_NUMBERS = (100, 900)
CANDIDATE_BASES = 20
# In the paper's order of trying: the bound that it states, then wider ones, until every attack succeeds.
BOUNDS = (2, 4, 8, 16)

# Not the paper's 0.25: in trials with our extractors, on a dozen targets, that left poisons about as far from their
# targets as other images are, and hardly any attack succeeded.
SIMILARITY = 1e-4


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much is done.

    ``cifar10_steps``, ``gtsrb_steps``: training steps of the extractors. ``targets``: of each class, in the main
    experiment. ``other_targets``: of each class, in the others.
    """

    cifar10_steps: int
    gtsrb_steps: int
    targets: int
    other_targets: int
    iterations: int


FULL = Scale(cifar10_steps=1250, gtsrb_steps=600, targets=110, other_targets=25, iterations=500)
SMALL = Scale(cifar10_steps=300, gtsrb_steps=200, targets=10, other_targets=5, iterations=300)


def scale_of(settings: Settings) -> Scale:
    """The scale of a run."""
    return SMALL if settings.small else FULL


def folder_of(settings: Settings) -> TransferFolder:
    """The folder of a run's transfer-learning experiments."""
    return TransferFolder(path=settings.work / "transfer", data_root=settings.data_root, say=settings.say)


def main_experiment(settings: Settings, bound: int | None = None, *, trial: bool = False) -> Experiment:
    """Dog against frog; ``bound``: of the change, in levels of 255, in place of the ℓ2 term; a ``trial`` is on few."""
    scale = scale_of(settings)
    name = "dog-frog" if bound is None else f"dog-frog-within-{bound}"
    targets = scale.other_targets if trial else scale.targets
    return _experiment(settings, f"{name}-trial" if trial else name, "cifar10", (DOG, FROG), targets, bound=bound)


def other_experiments(settings: Settings) -> Iterator[Experiment]:
    """Three classes, traffic signs, and other numbers of training images."""
    scale = scale_of(settings)
    yield _experiment(settings, "dog-frog-ship", "cifar10", (DOG, FROG, SHIP), scale.other_targets)
    yield _experiment(settings, "stop-yield", "gtsrb", (STOP, YIELD), scale.other_targets)
    for count in OTHER_NUMBERS:
        name = f"dog-frog-of-{count}"
        yield _experiment(settings, name, "cifar10", (DOG, FROG), scale.other_targets, training_images=count)


def measured_all(settings: Settings) -> dict[str, Values]:
    """The results of every experiment by name; of bounds, up to the first within which every attack succeeds.

    A bound is tried on few targets, and on all of the main experiment where that succeeds.
    """
    folder = folder_of(settings)
    experiment = main_experiment(settings)
    results = {experiment.name: folder.measured(experiment)}
    for bound in BOUNDS:
        experiment = main_experiment(settings, bound)
        results[experiment.name] = folder.measured(main_experiment(settings, bound, trial=True))
        if all(results[experiment.name]["hit"]):
            results[experiment.name] = folder.measured(experiment)
            if all(results[experiment.name]["hit"]):
                break
    return results | {experiment.name: folder.measured(experiment) for experiment in other_experiments(settings)}


def _experiment(
    settings: Settings,
    name: str,
    task: str,
    classes: tuple[int, ...],
    targets: int,
    *,
    training_images: int = TRAINING_IMAGES,
    bound: int | None = None,
) -> Experiment:
    scale = scale_of(settings)
    # One extractor for both tasks of CIFAR-10: it has seen none of the three classes.
    held_out, steps = ((DOG, FROG, SHIP), scale.cifar10_steps) if task == "cifar10" else (classes, scale.gtsrb_steps)
    precision = choose_machine(None, settings.workers, None, None).precision
    return Experiment(
        name=name,
        extractor=ExtractorPlan(
            task=task, held_out=tuple(sorted(held_out)), steps=steps, seed=settings.seed, precision=precision
        ),
        plan=TransferPlan(
            classes=classes,
            training_images=training_images,
            targets=targets,
            crafting=CraftingPlan(
                iterations=scale.iterations,
                similarity=SIMILARITY,
                bound=None if bound is None else bound / 255,
                step_rule="polyak",
            ),
            last_layer=LastLayerPlan(),
            seed=settings.seed,
            candidate_bases=CANDIDATE_BASES,
        ),
    )
