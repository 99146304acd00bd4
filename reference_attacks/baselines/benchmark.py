"""Tools that reverse triggers, side by side on the same networks and images, one thread each."""

from __future__ import annotations

import hashlib
import json
import math
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pytest_backdoor.errors import NotAssessableError
from pytest_backdoor.files import write_atomically
from pytest_backdoor.models import Samples, TorchClassifier
from pytest_backdoor.settings import ScanSettings

from ..detectors.splits import Record, poisoned
from ..parallel import work_off
from ..tasks import find_task
from ..zoo.benchmark import describe_computer
from ..zoo.images import read_images
from ..zoo.store import Zoo, load_network, load_zoo
from .neural_cleanse import CleansePlan, Loss
from .reversal_pairs import PairsPlan
from .tools import TOOLS, Answer, Case, Tool, ToolPlan, installed, make_tools

PACKAGES = ("torch", "numpy")

Figures = dict[str, Any]
Result = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class ReversalPlan:
    """What is measured.

    ``zoo``: its folder. ``networks``: how many test networks, half of them poisoned. ``images``: about how many clean
    test images, equally many of each class. ``tools``: of ``TOOLS``. ``steps``: of the two Neural Cleanses that count
    in steps. ``mini_batches`` and ``loss``: of the published one. ``epochs``: of the pairs' attacks.
    ``trojanzoo_images``: in each of its epochs, None for its own default, as many as the task has to train on. Raises
    ValueError for what makes no sense.
    """

    zoo: Path
    networks: int
    images: int = 400
    tools: tuple[str, ...] = TOOLS
    seed: int = 0
    steps: int = 1000
    mini_batches: int = 31
    loss: Loss = "cross-entropy"
    epochs: int = 50
    trojanzoo_images: int | None = None

    def __post_init__(self) -> None:
        unknown = sorted(set(self.tools) - set(TOOLS))
        if unknown or not self.tools:
            raise ValueError(f"There is no tool {', '.join(unknown)}; choose among {', '.join(TOOLS)}.")
        if self.networks < 2 or self.images < 1 or (self.trojanzoo_images or 1) < 1:
            raise ValueError("A benchmark needs at least one clean and one poisoned network, and one image.")


@dataclass(frozen=True, kw_only=True)
class Job:
    """One tool on one network. ``path``: where its result is kept. ``asked``: what it is the result of."""

    plan: ReversalPlan
    tool: str
    record: Record
    path: Path
    asked: dict[str, Any]


def measure(plan: ReversalPlan, work: Path, *, workers: int = 1) -> Figures:
    """Run every tool that is installed on every network; what ``work`` holds already is not computed again.

    A result counts only for the same network, images, seed, settings and code. Raises ValueError without a finished
    zoo that holds clean and poisoned test networks.
    """
    zoo = load_zoo(plan.zoo)
    records = chosen_records(zoo, plan.networks)
    tools = list(tools_of(plan).values())
    present = [tool for tool in tools if tool.missing is None]
    # Network by network, so that a slow hour of the machine hits all tools alike.
    jobs = [_job(plan, tool, record, work) for record in records for tool in present]
    missing = [job for job in jobs if not job.path.exists()]
    work_off(run_job, missing, workers=workers, description=f"Reversing triggers of {zoo.folder.name}")
    results = [json.loads(job.path.read_text(encoding="utf-8")) for job in jobs]
    return {
        "plan": {**asdict(plan), "zoo": plan.zoo.name},
        "task": zoo.plan["task"],
        "classes": zoo.classes,
        "images": len(balanced_samples(plan.zoo, plan.images)),
        "workers": workers,
        "networks": {
            kind: [record["name"] for record in records if poisoned(record) == (kind == "poisoned")]
            for kind in ("clean", "poisoned")
        },
        "computer": describe_computer("cpu"),
        "versions": {"Python": platform.python_version()} | {name: installed(name) for name in PACKAGES},
        "tools": [
            {
                "name": tool.name,
                "missing": tool.missing,
                "flags": tool.flags,
                "settings": dict(tool.settings),
                "results": [result for result in results if result["tool"] == tool.name],
            }
            for tool in tools
        ],
    }


def chosen_records(zoo: Zoo, networks: int) -> list[Record]:
    """The first test networks of either kind, clean and poisoned in turn. Raises ValueError if one kind is absent."""
    kinds = [
        [record for record in zoo.records if record["split"] == "test" and poisoned(record) == wanted]
        for wanted in (False, True)
    ]
    if not all(kinds):
        raise ValueError(f"{zoo.folder} needs clean and poisoned networks to test on; build a zoo with both.")
    each = min(networks // 2, *map(len, kinds))
    return [record for pair in zip(*(kind[:each] for kind in kinds), strict=True) for record in pair]


@cache
def balanced_samples(folder: Path, count: int) -> Samples:
    """About ``count`` test images of a zoo's task, equally many of each class and evenly spread over it.

    No network of the zoo was trained on them. The attack on pairs needs images of every class, and of the rarest
    traffic signs a plain choice of a few hundred images has none.
    """
    images = read_images(folder)
    each = max(1, count // images.classes)
    labels = images.test.labels
    members = [(labels == label).nonzero()[:, 0] for label in range(images.classes)]
    chosen = torch.cat([of[torch.linspace(0, len(of) - 1, min(each, len(of))).long()] for of in members])
    pixels = images.test.images[chosen].numpy().astype(np.float32) / np.float32(255)
    return Samples(images=pixels, labels=labels[chosen].numpy())


@cache
def tools_of(plan: ReversalPlan) -> dict[str, Tool]:
    """The plan's tools with its settings."""
    zoo = load_zoo(plan.zoo)
    return make_tools(
        ToolPlan(
            cleanse=CleansePlan(steps=plan.steps, mini_batches=plan.mini_batches, loss=plan.loss),
            pairs=PairsPlan(place=find_task(zoo.plan["task"]).place, epochs=plan.epochs),
            art_steps=plan.steps,
            trojanzoo_images=plan.trojanzoo_images or len(read_images(plan.zoo).train),
        ),
        plan.tools,
    )


class CountingClassifier(TorchClassifier):
    """A classifier that counts the images that go through it forwards and backwards."""

    image_gradients = 0

    def differentiable(self, device: str) -> Callable[[torch.Tensor], torch.Tensor]:
        """See ``Classifier.differentiable``."""
        forward = super().differentiable(device)

        def counted(images: torch.Tensor) -> torch.Tensor:
            if torch.is_grad_enabled() and images.requires_grad:
                self.image_gradients += len(images)
            return forward(images)

        return counted


def run_job(job: Job) -> None:
    """Run one tool on one network and keep what it says, how long it took and how many image gradients."""
    zoo = load_zoo(job.plan.zoo)
    network = load_network(job.record, zoo.input_shape, zoo.classes)
    settings = ScanSettings(input_shape=zoo.input_shape)
    classifier = CountingClassifier(network, job.record["name"], settings)
    samples = balanced_samples(job.plan.zoo, job.plan.images)
    _warm_up(classifier, samples)
    answer, problem = Answer(statistics={}), None
    started = time.perf_counter()
    try:
        answer = tools_of(job.plan)[job.tool].run(Case(classifier=classifier, samples=samples, seed=job.plan.seed))
    except NotAssessableError as error:
        problem = str(error)
    result = {
        "tool": job.tool,
        "network": job.record["name"],
        "poisoned": poisoned(job.record),
        "seconds": time.perf_counter() - started,
        "image_gradients": classifier.image_gradients,
        "not_assessed": problem,
        **asdict(answer),
        "statistics": {name: _finite(value) for name, value in answer.statistics.items()},
        "asked": job.asked,
    }
    write_atomically(job.path, f"{json.dumps(result, indent=1)}\n".encode())


def _job(plan: ReversalPlan, tool: Tool, record: Record, work: Path) -> Job:
    described = {name: value for name, value in record.items() if name != "folder"}
    zoo = load_zoo(plan.zoo)
    asked = {
        "zoo": {name: zoo.plan.get(name) for name in ("task", "seed", "precision")},
        "network": described,
        "images": plan.images,
        "seed": plan.seed,
        "settings": dict(tool.settings),
    }
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:12]
    path = work / tool.name / f"{record['name']}-{digest}.json"
    return Job(plan=plan, tool=tool.name, record=record, path=path, asked=asked)


def _finite(value: float | None) -> float | None:
    """None for what is no number, or not a finite one, which JSON has no word for."""
    return value if value is not None and math.isfinite(value) else None


def _warm_up(classifier: CountingClassifier, samples: Samples) -> None:
    """Once forwards and backwards, which the first time takes longer."""
    batch = torch.from_numpy(samples.images[:32]).requires_grad_()
    classifier.differentiable("cpu")(batch).sum().backward()  # type: ignore[no-untyped-call]
    classifier.image_gradients = 0
