"""Crafting in a batch against one after the other, and against ART, on the same pairs in one run."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from ..reproduce.machine import machine, versions
from ..reproduce.tables import table
from ..zoo.seeds import derived_generator
from .art import art_craft, art_missing
from .crafting import CraftingPlan, Poisons, craft, measured
from .sources import Source

Values = dict[str, Any]
BATCH, ALONE, ART = "in a batch", "one after the other", "ART, FeatureCollisionAttack"


@dataclass(frozen=True, kw_only=True)
class Timed:
    """Poisons and the CPU seconds that they took, which other work on the machine changes little."""

    poisons: Poisons
    seconds: float


def measure(
    source: Source,
    plan: CraftingPlan,
    *,
    count: int,
    alone: int,
    art_iterations: int,
    seed: int,
    say: Callable[[str], None],
) -> Values:
    """Seconds and objectives of each way, as JSON values.

    ``count`` pairs are crafted in one batch, and the first ``alone`` of them in the other ways. The threads of torch
    are set to one meanwhile.
    """
    bases, targets = _pairs(source, count, seed)
    features = source.extractor.features
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        craft(features, bases[:2], targets[:2], replace(plan, iterations=2))  # What is done once is done before.
        ways = {BATCH: _timed(lambda: craft(features, bases, targets, replace(plan, batch=count)))}
        say(f"{BATCH}: {ways[BATCH].seconds:.1f} s for {count}")
        few = bases[:alone], targets[:alone]
        ways[ALONE] = _timed(lambda: craft(features, *few, replace(plan, batch=1)))
        say(f"{ALONE}: {ways[ALONE].seconds:.1f} s for {alone}")
        missing = art_missing()
        if missing is None:
            made = _timed(lambda: measured(features, art_craft(features, *few, plan, art_iterations), *few, plan))
            ways[ART] = made
            say(f"{ART}: {made.seconds:.1f} s for {alone}")
    finally:
        torch.set_num_threads(threads)
    return {
        "machine": machine(),
        "versions": versions(),
        "plan": asdict(plan),
        "art_iterations": art_iterations,
        "art_missing": missing,
        "ways": {name: _values(way, alone) for name, way in ways.items()},
    }


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


def _timed(make: Callable[[], Poisons]) -> Timed:
    started = time.process_time()
    poisons = make()
    return Timed(poisons=poisons, seconds=time.process_time() - started)


def _values(way: Timed, alone: int) -> Values:
    """Objectives and distances are of the poisons that all ways have crafted."""
    poisons = way.poisons
    return {
        "poisons": len(poisons.images),
        "seconds": round(way.seconds, 3),
        "seconds_each": round(way.seconds / len(poisons.images), 5),
        "objective": round(float(poisons.objectives[:alone].mean()), 4),
        "distance": round(float(poisons.distances[:alone].mean()), 4),
        "iterations": round(float(poisons.iterations[:alone].float().mean()), 1),
    }


def text(values: Values) -> str:
    """The table, with what it was measured with."""
    ways = values["ways"]
    fastest = ways[BATCH]["seconds_each"]
    head = (
        "way",
        "poisons",
        "CPU seconds a poison",
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
    notes = f"{values['machine']}, one thread, torch {values['versions']['torch']}."
    if values["art_missing"] is not None:
        notes += f" ART was left out: {values['art_missing']}."
    return f"# Crafting of poisons\n\n{table(head, rows)}\n\n{notes}\n"
