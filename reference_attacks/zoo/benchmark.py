"""How many networks an hour this machine trains, in several ways side by side: ``zoo benchmark``."""

from __future__ import annotations

import multiprocessing
import os
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from multiprocessing.pool import Pool
from multiprocessing.synchronize import Barrier
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode

from ..networks import make_network
from ..tasks import find_task
from .images import prepare_images, read_images
from .machine import GROUP_ON_GPU, Machine
from .recipe import Member, Precision, ZooPlan, grouped
from .work import trained_networks

GROUP_ON_CPU = 4
WARM_UP_STEPS = 3
LONGEST_START = 300.0  # seconds
PRODUCT_SECONDS = 0.5
PACKAGES = ("torch", "numpy")

Figures = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class BenchmarkPlan:
    """What is measured.

    ``family``: None for the task's. ``steps``: of every network. ``rounds``: how often each way is timed. ``machine``:
    what ``zoo build`` would choose. Raises ValueError for numbers below one.
    """

    task: str
    family: str | None = None
    networks: int
    steps: int
    rounds: int = 3
    machine: Machine

    def __post_init__(self) -> None:
        if min(self.networks, self.steps, self.rounds) < 1:
            raise ValueError("A benchmark needs at least one network, one step and one round.")


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to train the networks. ``threads``: of each process, None for torch's default."""

    name: str
    workers: int
    threads: int | None
    group: int
    precision: Precision


@dataclass(frozen=True, kw_only=True)
class Running:
    """The processes of one way, started and warm. ``together``: where they and this process can wait for each other."""

    way: Way
    pool: Pool
    together: Barrier
    jobs: list[tuple[ZooPlan, list[Member], Path, str]]

    def seconds(self) -> float:
        """Train all networks once and return the wall time in seconds."""
        started = time.perf_counter()
        for _ in self.pool.imap_unordered(_train, self.jobs):
            pass
        return time.perf_counter() - started


def ways(machine: Machine) -> list[Way]:
    """The ways that are compared; the last is that of ``zoo build``."""
    precision, on_cpu = machine.precision, machine.device == "cpu"
    one = Way(name="one by one, float32", workers=1, threads=None, group=1, precision="float32")
    many = GROUP_ON_CPU if on_cpu else GROUP_ON_GPU
    compared = [
        one,
        replace(one, name=f"one by one, {precision}", precision=precision),
        replace(one, name=f"groups of {many} as one program, {precision}", group=many, precision=precision),
        Way(name="zoo build", workers=machine.workers, threads=1, group=machine.group, precision=precision),
    ]
    return compared if precision != "float32" else [one, *compared[2:]]


def measure(plan: BenchmarkPlan, root: str | None) -> Figures:
    """Time every way ``rounds`` times, in turn so that a slow moment hits all alike.

    Raises DataNotFoundError where the task's images are absent.
    """
    task = find_task(plan.task)
    with TemporaryDirectory() as scratch, ExitStack() as processes:
        folder = Path(scratch)
        classes = prepare_images(plan.task, root, folder).classes
        running = [processes.enter_context(_started(plan, way, classes, folder)) for way in ways(plan.machine)]
        precisions = sorted({way.precision for way in ways(plan.machine)})
        seconds: dict[str, list[float]] = {part.way.name: [] for part in running}
        limits: dict[str, list[float]] = {precision: [] for precision in precisions}
        for _ in range(plan.rounds):
            for part in running:
                seconds[part.way.name].append(part.seconds())
            for precision in precisions:
                limits[precision].append(_device_limit(running[-1], plan.machine.device, precision))
        flops = flops_of_a_step(plan, folder)
        figures = [_figures(plan, part, seconds[part.way.name], limits, flops) for part in running]
    return {
        "plan": asdict(plan),
        "family": plan.family or task.family,
        "batch": task.training.batch,
        "computer": describe_computer(plan.machine.device),
        "versions": {"Python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        "flops_of_a_step": flops,
        "limits_in_flops": limits,
        "ways": figures,
    }


def flops_of_a_step(plan: BenchmarkPlan, folder: Path) -> int:
    """Floating-point operations of matrix products and convolutions in one training step of one network."""
    images, task = read_images(folder), find_task(plan.task)
    network = make_network(plan.family or task.family, images.input_shape, images.classes)
    batch = torch.zeros(task.training.batch, *images.input_shape)
    with FlopCounterMode(display=False) as counter:
        cross_entropy(network(batch), torch.zeros(task.training.batch, dtype=torch.int64)).backward()
    return counter.get_total_flops()


def describe_computer(device: str) -> dict[str, Any]:
    """What the figures depend on: processor, cores and accelerator."""
    found = {"processor": _processor(), "cores": os.cpu_count(), "system": f"{platform.system()} {platform.machine()}"}
    if device.startswith("cuda"):
        found["accelerator"] = torch.cuda.get_device_name(device)
    return found


def _figures(
    plan: BenchmarkPlan, running: Running, seconds: Sequence[float], limits: dict[str, list[float]], flops: int
) -> Figures:
    rate = plan.networks * plan.steps * flops / median(seconds)
    return {
        **asdict(running.way),
        "threads": running.way.threads or running.pool.apply(torch.get_num_threads),
        "seconds": list(seconds),
        "networks_an_hour": [3600 * plan.networks / value for value in seconds],
        "flops": rate,
        "share_of_limit": rate / median(limits[running.way.precision]),
    }


@contextmanager
def _started(plan: BenchmarkPlan, way: Way, classes: int, folder: Path) -> Iterator[Running]:
    """The processes of a way, warm: images loaded, and a few steps of its first group trained."""
    zoo = _zoo_plan(plan, way, classes)
    groups = grouped(zoo.members(), way.group)
    warm_up = [replace(member, steps=WARM_UP_STEPS) for member in groups[0]]
    device = plan.machine.device
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(way.workers + 1)
    initial = (way.threads, (zoo, warm_up, folder, device), ready)
    with context.Pool(way.workers, initializer=_warm_up, initargs=initial) as pool:
        ready.wait(LONGEST_START)
        yield Running(way=way, pool=pool, together=ready, jobs=[(zoo, group, folder, device) for group in groups])


def _zoo_plan(plan: BenchmarkPlan, way: Way, classes: int) -> ZooPlan:
    return ZooPlan(
        task=plan.task,
        classes=classes,
        clean_fit=plan.networks - plan.networks // 2,
        clean_calibration=0,
        clean_test=0,
        poisoned_fit=plan.networks // 2,
        poisoned_test=0,
        families=(plan.family or find_task(plan.task).family,),
        steps=(plan.steps,),
        precision=way.precision,
    )


_together: Barrier


def _warm_up(threads: int | None, job: tuple[ZooPlan, list[Member], Path, str], ready: Barrier) -> None:
    global _together
    _together = ready
    if threads is not None:
        torch.set_num_threads(threads)
    _train(job)
    ready.wait(LONGEST_START)


def _train(job: tuple[ZooPlan, list[Member], Path, str]) -> None:
    plan, members, folder, device = job
    for network in trained_networks(plan, members, read_images(folder), device):
        # Copied to the host as a build does, which also waits for the device.
        for value in network.state_dict().values():
            value.cpu()


def _device_limit(running: Running, device: str, precision: Precision) -> float:
    """Operations a second of large matrix products.

    On a CPU that of one core times the number of cores, measured in all processes of ``running`` at once, since cores
    that are busy together may run slower; each process must have one thread.
    """
    if device != "cpu":
        return _product_rate(device, precision)
    jobs = [running.pool.apply_async(_product_rate_together, (precision,)) for _ in range(running.way.workers)]
    running.together.wait(LONGEST_START)
    rates = [job.get() for job in jobs]
    return sum(rates) / len(rates) * (os.cpu_count() or 1)


def _product_rate_together(precision: Precision) -> float:
    # No process takes two of these jobs, because each waits here until all have begun.
    _together.wait(LONGEST_START)
    return _product_rate("cpu", precision)


def _product_rate(device: str, precision: Precision) -> float:
    """The median rate of products of two square matrices, in operations a second."""
    size = 2048 if device == "cpu" else 8192
    left, right = (torch.ones(size, size, dtype=getattr(torch, precision), device=device) for _ in range(2))
    rates: list[float] = []
    ended = time.perf_counter() + PRODUCT_SECONDS
    while len(rates) < 3 or time.perf_counter() < ended:
        started = time.perf_counter()
        left @ right
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)
        rates.append(2 * size**3 / (time.perf_counter() - started))
    return median(rates)


def _processor() -> str:
    """The processor's name as the system knows it."""
    described = Path("/proc/cpuinfo")
    if described.exists():
        for line in described.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
