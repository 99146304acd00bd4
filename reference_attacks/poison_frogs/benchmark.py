"""Crafting in a batch against one after the other, and against ART, on the same pairs in one run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from ..reproduce.machine import machine, versions
from ..reproduce.tables import table
from ..training import as_input
from ..zoo.seeds import derived_generator
from .art import LEARNING_RATES, art_craft, art_missing
from .crafting import CraftingPlan, Poisons, craft, measured
from .sources import Source

Values = dict[str, Any]
BATCH, ALONE, DESCENT = "in a batch", "one after the other", "one after the other, by descent"
ART = "ART, FeatureCollisionAttack"
# Of descent, λ of the first step, as end to end.
FIRST_RATE = 1e-2


@dataclass(frozen=True, kw_only=True)
class Timed:
    """Poisons on the CPU and the seconds that they took: the processor's, which other work changes little.

    On a GPU they are those of a clock.
    """

    poisons: Poisons
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much is done, and on which ``device``.

    ``count`` pairs are crafted in one batch, and the first ``alone`` of them in the other ways, with at most
    ``descent_iterations`` and ``art_iterations`` where another rule of steps is at work than in the batch.
    """

    count: int
    alone: int
    descent_iterations: int
    art_iterations: int
    device: str = "cpu"


def measure(source: Source, plan: CraftingPlan, sizes: Sizes, *, seed: int, say: Callable[[str], None]) -> Values:
    """Seconds and objectives of each way, as JSON values. The threads of torch are set to one meanwhile."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    if sizes.device != "cpu":
        source.extractor.network.to(sizes.device)
    try:
        ways, rate = _ways(source, plan, sizes, seed, say)
        network = _network_seconds(source, plan, sizes, seed)
    finally:
        torch.set_num_threads(threads)
    return {
        "machine": machine(),
        "versions": versions(),
        "plan": asdict(plan),
        "sizes": asdict(sizes),
        "art_learning_rate": rate,
        "art_missing": art_missing(),
        "network_seconds": network,
        "ways": {name: _values(name, way, sizes) for name, way in ways.items()},
    }


def _network_seconds(source: Source, plan: CraftingPlan, sizes: Sizes, seed: int) -> float:
    """Seconds an image of the network's forward and backward pass on the batch, the best of five."""
    bases, _ = _pairs(source, min(plan.batch, sizes.count), seed)
    images = as_input(bases.to(sizes.device)).contiguous(memory_format=torch.channels_last).requires_grad_()
    found = []
    for _ in range(5):
        started = _clock(sizes)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=plan.precision == "bfloat16"):
            features = source.extractor.features(images)
        torch.autograd.grad(features.float().square().sum(), [images])
        found.append(_clock(sizes) - started)
    return min(found) / len(images)


def _ways(
    source: Source, plan: CraftingPlan, sizes: Sizes, seed: int, say: Callable[[str], None]
) -> tuple[dict[str, Timed], float | None]:
    """What each way made, and ART's learning rate."""
    bases, targets = (images.to(sizes.device) for images in _pairs(source, sizes.count, seed))
    few = bases[: sizes.alone], targets[: sizes.alone]
    features = source.extractor.features
    craft(features, bases[:2], targets[:2], replace(plan, iterations=2))  # What is done once is done before.
    batch = replace(plan, batch=min(plan.batch, sizes.count))
    descent = replace(plan, batch=1, step_rule="descent", learning_rate=FIRST_RATE, iterations=sizes.descent_iterations)
    ways = {
        BATCH: _timed(sizes, lambda: craft(features, bases, targets, batch)),
        ALONE: _timed(sizes, lambda: craft(features, *few, replace(plan, batch=1))),
        DESCENT: _timed(sizes, lambda: craft(features, *few, descent)),
    }
    rate = None
    if art_missing() is None:

        def by_art(pairs: tuple[torch.Tensor, torch.Tensor], learning_rate: float) -> Poisons:
            crafted = art_craft(features, *pairs, plan, sizes.art_iterations, learning_rate)
            return measured(features, crafted, *pairs, plan)

        first = bases[:2], targets[:2]
        rate = min(LEARNING_RATES, key=lambda one: float(by_art(first, one).objectives.mean()))
        ways[ART] = _timed(sizes, lambda: by_art(few, rate))
    for name, way in ways.items():
        say(f"{name}: {way.seconds:.1f} s for {len(way.poisons.images)}")
    return ways, rate


def _pairs(source: Source, count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Uint8 bases and targets, drawn from test images of the two classes."""
    generator = derived_generator(seed, "frogs/benchmark")
    target_class, base_class = source.classes
    found = []
    for label in (base_class, target_class):
        candidates = source.test.of_class(label)
        chosen = torch.randperm(len(candidates), generator=generator)[:count]
        found.append(source.extractor.prepared(candidates.take(chosen)).images)
    if min(len(images) for images in found) < count:
        raise ValueError("There are fewer test images of a class than --count; choose a smaller one.")
    return found[0], found[1]


def _timed(sizes: Sizes, make: Callable[[], Poisons]) -> Timed:
    started = _clock(sizes)
    poisons = make()
    seconds = _clock(sizes) - started
    return Timed(poisons=Poisons(**{name: value.cpu() for name, value in vars(poisons).items()}), seconds=seconds)


def _clock(sizes: Sizes) -> float:
    if sizes.device == "cpu":
        return time.process_time()
    torch.accelerator.synchronize()
    return time.perf_counter()


def _values(name: str, way: Timed, sizes: Sizes) -> Values:
    """Objectives and distances are of the poisons that all ways have crafted; ART does not tell its steps."""
    poisons, alone = way.poisons, sizes.alone
    return {
        "poisons": len(poisons.images),
        "seconds": round(way.seconds, 3),
        "seconds_each": round(way.seconds / len(poisons.images), 5),
        "objective": round(float(poisons.objectives[:alone].mean()), 4),
        "distance": round(float(poisons.distances[:alone].mean()), 4),
        "iterations": sizes.art_iterations
        if name == ART
        else round(float(poisons.iterations[:alone].float().mean()), 1),
    }


def text(values: Values) -> str:
    """The table, with what it was measured with."""
    ways = values["ways"]
    fastest = ways[BATCH]["seconds_each"]
    head = (
        "way",
        "poisons",
        "seconds a poison",
        "times the batch's",
        "mean objective",
        "mean distance",
        "mean steps",
    )
    rows = [
        (
            name,
            str(way["poisons"]),
            f"{way['seconds_each']:.3f}",
            f"{way['seconds_each'] / fastest:.1f}",
            f"{way['objective']:.2f}",
            f"{way['distance']:.2f}",
            f"{way['iterations']:.0f}",
        )
        for name, way in ways.items()
    ]
    return f"# Crafting of poisons\n\n{_setting(values)}\n\n{table(head, rows)}\n\n{_notes(values)}\n"


def _setting(values: Values) -> str:
    plan, sizes = values["plan"], values["sizes"]
    where = f"{values['machine']}, torch {values['versions']['torch']}, one thread, {sizes['device']}"
    return (
        f"Written by `{values['command']}` ({where}). The same pairs, β₀ = {plan['similarity']:g}, network in "
        f"{plan['precision']} in all ways but ART's, in batches of {min(plan['batch'], sizes['count'])}. Seconds are "
        "of the processor, on a GPU of a clock. Objectives, equation 1 of the paper, and distances are of the rounded "
        "images, in float32, means over the poisons that all ways have made."
    )


def _notes(values: Values) -> str:
    return f"{_bound(values)} {_of_art(values)}"


def _bound(values: Values) -> str:
    """What a batch can gain at most."""
    ways, network = values["ways"], values["network_seconds"]
    batch, alone = (ways[name]["seconds_each"] / max(1.0, ways[name]["iterations"]) for name in (BATCH, ALONE))
    return (
        f"A step takes {1e3 * alone:.2f} ms for one poison alone and {1e3 * batch:.2f} ms for each in the batch. The "
        f"network's forward and backward pass on the batch takes {1e3 * network:.2f} ms an image of it, so that with "
        f"these settings no batch could be more than {alone / network:.1f} times as fast as one after the other."
    )


def _of_art(values: Values) -> str:
    if values["art_missing"] is not None:
        return f"ART was left out: {values['art_missing']}."
    rates = ", ".join(f"{rate:g}" for rate in LEARNING_RATES)
    return (
        f"ART has β as the others, and of the learning rates {rates} the one that gives the smallest objective for the "
        f"first two pairs, {values['art_learning_rate']:g}; finding it is not counted."
    )
