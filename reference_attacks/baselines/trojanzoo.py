"""TrojanZoo's Neural Cleanse (PyPI: trojanzoo, which brings trojanvision) on one of our networks.

Its documented route needs a registered model, a data set and the attacker's real trigger. Here ``optimize_mark``, its
own code, runs on stand-ins that have just the attributes that it reads. Version 2.0.3 imports with matplotlib below
3.9 only (it uses ``matplotlib.cm.get_cmap``).

What it does differently from Neural Cleanse as published is left as it is: ten epochs under a cosine schedule, a cost
that neither starts at 0 nor is set back between classes, the last epoch's mark whether or not it succeeds, and an index
with the lower of two middle values. It prints indices and gives no verdict.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import cross_entropy

from .tools import Answer, Case, Tool, installed, missing, source_digest, this_folder

if TYPE_CHECKING:
    from collections.abc import Callable

PACKAGE = "trojanzoo"
CLEANSE = "trojanvision.defenses.backdoor.model_inspection.neural_cleanse"
# Defaults of its defences neural_cleanse and model_inspection, which it takes from its command line.
DEFAULTS: dict[str, Any] = {
    "defense_remask_epoch": 10,
    "defense_remask_lr": 0.1,
    "cost": 1e-3,
    "init_cost": 1e-3,
    "cost_multiplier_up": 1.5,
    "cost_multiplier_down": 1.5**1.5,
    "nc_asr_threshold": 0.99,
    "nc_early_stop_threshold": 0.99,
    "nc_patience": 10.0,
    "early_stop_patience": 20.0,
}
BATCH = 96  # its setting for CIFAR-10 and GTSRB


def trojanzoo_tool(images: int) -> Tool:
    """The tool; ``images``: how many of the samples each of its epochs sees, every one several times if need be."""
    return Tool(
        name="trojanzoo",
        run=lambda case: _run(case, images),
        settings={
            **DEFAULTS,
            "batch": BATCH,
            "images": images,
            "version": installed(PACKAGE),
            "source": source_digest(this_folder(), "trojanzoo"),
        },
        flags="none, it prints indices",
        missing=missing(PACKAGE, (CLEANSE,), "pip install trojanzoo 'matplotlib<3.9'"),
    )


def _run(case: Case, images: int) -> Answer:
    from trojanvision.defenses.backdoor.model_inspection.neural_cleanse import NeuralCleanse
    from trojanzoo.utils.metric import normalize_mad

    cleanse = object.__new__(NeuralCleanse)
    cleanse.__dict__.update(DEFAULTS)
    cleanse.attack = _attack(case.classifier.input_shape)
    cleanse.model = _Model(case.forward)
    loader = _Loader(case.images, case.labels, images, case.generator)
    norms, successes = [], []
    # It draws from the global generator and writes to the terminal.
    with torch.random.fork_rng(devices=[]), contextlib.redirect_stdout(io.StringIO()):
        torch.manual_seed(case.seed)
        for label in range(case.classifier.classes):
            cleanse.attack.target_class = label
            mark, _ = cleanse.optimize_mark(label, loader=loader, verbose=False)
            norms.append(float(mark[-1].norm(p=1)))
            successes.append(_success(case, _pasted(case.images, mark), label))
    smallest = norms.index(min(norms))
    return Answer(
        statistics={
            "mask norm MAD of the smallest": float(normalize_mad(norms)[smallest]),
            "smallest norm": -norms[smallest],
        },
        details={"norms": norms, "success": successes},
    )


def _attack(input_shape: tuple[int, int, int]) -> SimpleNamespace:
    """What it reads of an attack: a mark of colours and opacity, and how it is put onto images."""
    channels, height, width = input_shape
    mark = SimpleNamespace(mark=torch.zeros(channels + 1, height, width))
    return SimpleNamespace(mark=mark, add_mark=lambda images: _pasted(images, mark.mark), target_class=0)


def _pasted(images: torch.Tensor, mark: torch.Tensor) -> torch.Tensor:
    return images * (1 - mark[-1]) + mark[:-1] * mark[-1]


@torch.no_grad()
def _success(case: Case, images: torch.Tensor, label: int) -> float:
    return float((case.forward(images).argmax(1) == label).float().mean())


class _Model:
    """What it reads of a model."""

    def __init__(self, forward: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self._forward = forward

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return self._forward(images)

    def get_data(self, data: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """A batch as it is."""
        return data

    def loss(self, _input: torch.Tensor, _label: torch.Tensor, _output: torch.Tensor) -> torch.Tensor:
        """The cross-entropy, its models' default."""
        return cross_entropy(_output, _label)


class _Loader:
    """Epochs of ``count`` images in random order, pass after pass over the samples."""

    def __init__(self, images: torch.Tensor, labels: torch.Tensor, count: int, generator: torch.Generator) -> None:
        self._images, self._labels, self._count, self._generator = images, labels, count, generator

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        passes = -(-self._count // len(self._images))
        orders = [torch.randperm(len(self._images), generator=self._generator) for _ in range(passes)]
        for chosen in torch.cat(orders)[: self._count].split(BATCH):
            yield self._images[chosen], self._labels[chosen]
