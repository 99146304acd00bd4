"""Seconds of the trigger search for networks of three sizes; writes ``reversal-seconds.md`` and ``.json`` beside this.

Usage: python docs/benchmarks/reversal_seconds.py [--runs N]      (from the repository, with the attacks extra)

The networks have random weights and the images are random: what a search costs does not depend on what they are, only
on their shapes, except for the last step, which shrinks the best trigger.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pytest_backdoor.checks.reversal import reverse
from pytest_backdoor.models import Samples, TorchClassifier
from pytest_backdoor.settings import DEFAULT_FAMILIES, ScanSettings
from reference_attacks.networks import make_network

HERE = Path(__file__).resolve().parent
SAMPLES = 100


class Block(nn.Module):
    """Two convolutions and the way around them, of ResNet-20 (He et al. 2015, option A replaced by a projection)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(outputs) for _ in range(2))
        same = stride == 1 and inputs == outputs
        self.around = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Features ``(N, outputs, H / stride, W / stride)``."""
        inner = torch.relu(self.norms[0](self.first(images)))
        return torch.relu(self.norms[1](self.second(inner)) + self.around(images))


def resnet_20() -> nn.Module:
    """The network of 20 layers for 32x32 images of 10 classes."""
    widths = [16] * 4 + [32] * 3 + [64] * 3
    blocks = [Block(a, b, 1 if a == b else 2) for a, b in itertools.pairwise(widths)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)]
    return nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), *blocks, *head)


NETWORKS: dict[str, tuple[tuple[int, int, int], int, float, Callable[[], nn.Module]]] = {
    "two convolutions, 28x28": ((1, 28, 28), 10, 3.0, lambda: make_network("plain", (1, 28, 28), 10)),
    "VGG with a spatial transformer, 32x32": (
        (3, 32, 32),
        43,
        20.0,
        lambda: make_network("transformer-vgg", (3, 32, 32), 43),
    ),
    "ResNet-20, 32x32": ((3, 32, 32), 10, 30.0, resnet_20),
}


def opened(shape: tuple[int, int, int], classes: int, make: Callable[[], nn.Module]) -> tuple[TorchClassifier, Samples]:
    """A network that gives random images all its classes, and the images."""
    torch.manual_seed(0)
    network = make().eval()
    images = torch.rand(SAMPLES, *shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = network(images)
        spread = (logits - logits.mean(0)) / logits.std(0)
    network = nn.Sequential(network, Rescaled(logits.mean(0), logits.std(0))).eval()
    classifier = TorchClassifier(network, "network", ScanSettings(input_shape=shape))
    return classifier, Samples(images=images.numpy(), labels=spread.argmax(1).numpy().astype(np.int64))


class Rescaled(nn.Module):
    """Logits of which every class is as often the largest."""

    def __init__(self, mean: torch.Tensor, spread: torch.Tensor) -> None:
        super().__init__()
        self.mean, self.spread = nn.Parameter(mean), nn.Parameter(spread)

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        """Logits ``(N, K)`` with mean 0 and spread 1 for each class."""
        return (logits - self.mean) / self.spread


def main() -> None:
    """Time every network and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    runs = parser.parse_args().runs
    rows = []
    for name, (shape, classes, target, make) in NETWORKS.items():
        classifier, samples = opened(shape, classes, make)
        seconds = []
        for _ in range(runs):
            started = time.perf_counter()
            reverse(classifier, samples, seed=0)
            seconds.append(time.perf_counter() - started)
        rows.append({"network": name, "classes": classes, "target": target, "seconds": seconds})
        print(name, [round(value, 2) for value in seconds], flush=True)
    (HERE / "reversal-seconds.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    (HERE / "reversal-seconds.md").write_text(as_markdown(rows, runs), encoding="utf-8")


def as_markdown(rows: list[dict], runs: int) -> str:
    """The table with medians beside the targets."""
    origin = (
        f"Written by `python docs/benchmarks/reversal_seconds.py --runs {runs}` on {os.cpu_count()} cores "
        f"({platform.machine()}, {platform.system()}), load {os.getloadavg()[0]:.1f} at its end, Python "
        f"{platform.python_version()}, torch {version('torch')}, seed 0. The search of the families "
        f"{', '.join(DEFAULT_FAMILIES)} for all classes on {SAMPLES} clean samples, without imports; n = {runs}."
    )
    lines = [
        "# Seconds of trigger reversal",
        "",
        origin,
        "",
        "| network | classes | median s | fastest | slowest | target s |",
        "| --- | --- | --- | --- | --- | --- |",
        *(
            f"| {row['network']} | {row['classes']} | {statistics.median(row['seconds']):.1f} | "
            f"{min(row['seconds']):.1f} | {max(row['seconds']):.1f} | {row['target']:g} |"
            for row in rows
        ),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
