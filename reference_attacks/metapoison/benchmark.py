"""Meta-gradients of all surrogates as one batched program against one surrogate after the other, in one run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from ..networks import make_network
from ..reproduce.machine import machine, versions
from ..reproduce.tables import table
from ..zoo.recipe import Precision
from ..zoo.seeds import derived_generator
from .settings import CraftingPlan
from .stacks import Networks, Stack, stacked
from .unrolling import Aim, Batch, meta_gradient

Values = dict[str, Any]
BATCHED, ONE_BY_ONE = "one batched program", "one by one"
SHAPE, CLASSES = (3, 32, 32), 10


def measure(
    plan: CraftingPlan, *, device: str, precision: Precision, repeats: int, seed: int, say: Callable[[str], None]
) -> Values:
    """Meta-gradients a second of both ways, as JSON values; the fastest of ``repeats`` turns, the ways in turn.

    On random images of 32x32, on which the time does not depend, and fresh networks. One meta-gradient is that of one
    surrogate and one batch. ``largest_difference``: between the gradients of the two ways, relative to the largest
    number in one; their products are rounded in another order. On a CPU torch has one thread meanwhile.
    """
    threads = torch.get_num_threads()
    if device == "cpu":
        torch.set_num_threads(1)
    try:
        case = _Case(plan, device, precision, seed)
        found = {BATCHED: case.batched(), ONE_BY_ONE: case.one_by_one()}
        seconds: dict[str, list[float]] = {name: [] for name in found}
        for _ in range(repeats):
            for name, way in ((BATCHED, case.batched), (ONE_BY_ONE, case.one_by_one)):
                seconds[name].append(_timed(way, device))
                say(f"{name}: {plan.surrogates / seconds[name][-1]:.2f} meta-gradients a second")
    finally:
        torch.set_num_threads(threads)
    difference = (found[BATCHED] - found[ONE_BY_ONE]).abs().max() / found[BATCHED].abs().max()
    rates = {name: plan.surrogates / min(times) for name, times in seconds.items()}
    return {
        "machine": machine(),
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
        "precision": precision,
        "versions": versions(),
        "network": plan.network,
        "surrogates": plan.surrogates,
        "unroll": plan.unroll,
        "batch": plan.batch,
        "statistics": plan.statistics,
        "largest_difference": float(difference),
        "ways": {
            name: {"per_second": rate, "seconds": seconds[name], "times": rates[BATCHED] / rate}
            for name, rate in rates.items()
        },
    }


class _Case:
    """Surrogates, their batches and a target, all made up."""

    def __init__(self, plan: CraftingPlan, device: str, precision: Precision, seed: int) -> None:
        generator = derived_generator(seed, "metapoison/benchmark")
        members = [make_network(plan.network, SHAPE, CLASSES, seed=number) for number in range(plan.surrogates)]
        self.plan = plan
        self.networks = Networks(members[0], device=device, precision=precision)
        self.stack: Stack = stacked(members, device)
        count = plan.surrogates, plan.batch
        self.batches = [
            Batch(
                images=torch.rand(*count, *SHAPE, generator=generator).to(device),
                labels=torch.randint(CLASSES, count, generator=generator).to(device),
            )
            for _ in range(plan.unroll + 1)
        ]
        self.aim = Aim(
            targets=torch.rand(1, *SHAPE, generator=generator).to(device),
            labels=torch.tensor([0], device=device),
            objective=plan.objective,
            looks=plan.looks,
            statistics=plan.statistics,
        )
        self.rates = torch.full((plan.surrogates,), plan.learning_rate, device=device)

    def batched(self) -> torch.Tensor:
        """The meta-gradients by the plan's chunks, all surrogates at once if it has none."""
        size = self.plan.chunk or self.plan.surrogates
        return self._found([slice(start, start + size) for start in range(0, self.plan.surrogates, size)])

    def one_by_one(self) -> torch.Tensor:
        """The same meta-gradients."""
        return self._found([slice(number, number + 1) for number in range(self.plan.surrogates)])

    def _found(self, parts: Sequence[slice]) -> torch.Tensor:
        found = [
            meta_gradient(
                self.networks,
                self.stack.part(part),
                [Batch(images=batch.images[part], labels=batch.labels[part]) for batch in self.batches],
                self.aim,
                unroll=self.plan.unroll,
                rates=self.rates[part],
                checkpoint=self.plan.checkpoint,
            ).gradient
            for part in parts
        ]
        return torch.cat(found)


def _timed(way: Callable[[], torch.Tensor], device: str) -> float:
    """Seconds on a GPU's clock by the wall; on a CPU those of this process, which other work changes less."""
    on_gpu = device.startswith("cuda")
    clock = time.perf_counter if on_gpu else time.process_time
    if on_gpu:
        torch.cuda.synchronize()
    started = clock()
    way()
    if on_gpu:
        torch.cuda.synchronize()
    return clock() - started


def text(values: Values) -> str:
    """The table, with what it was measured with."""
    head = ("way", "meta-gradients a second", "seconds for all surrogates", "the batched program is faster by")
    rows = [
        (name, f"{way['per_second']:.2f}", f"{min(way['seconds']):.3f}", f"{way['times']:.2f}")
        for name, way in values["ways"].items()
    ]
    clock = "CPU seconds, one thread" if values["device"] == "cpu" else "wall seconds"
    notes = (
        f"{values['surrogates']} surrogates, {values['network']}, {values['unroll']} unrolled steps, batches of "
        f"{values['batch']} images of 32x32, {values['statistics']} statistics, {values['precision']}. The largest "
        f"difference between the two ways' gradients is {values['largest_difference']:.1e} of the largest number.\n\n"
        f"{values['device']}; {values['machine']}; {clock}; torch {values['versions']['torch']}."
    )
    return f"# Meta-gradients\n\n{table(head, rows)}\n\n{notes}\n"
