"""Feature extractors that have never seen the classes in question, trained on real images."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.functional import interpolate

from pytest_backdoor.files import write_atomically

from ..badnet.export import safetensors_bytes
from ..data import ImageSet
from ..networks.families import convolution
from ..recipes import muon
from ..subsets import of_classes
from ..tasks import find_task
from ..training import accuracy, as_input
from ..zoo.batches import Batches, draw_batches
from ..zoo.group import train_group
from ..zoo.images import prepare_images
from ..zoo.recipe import Precision
from ..zoo.seeds import derived_generator, derived_seed

FEATURES = 2048
SIDE = 128


class ExtractorNetwork(nn.Module):
    """A strided convolution of large images, 3x3 convolutions and pools, and a wide layer: ``FEATURES`` features.

    It is trained on small images that are enlarged to ``SIDE`` x ``SIDE``, and used on images of that size. The paper's
    network sees 299x299 pixels: an attacker has a hundred numbers to change for every feature, with 32x32 pixels three
    for two.

    The matrix of the wide layer stays as it is drawn; the convolutions are trained through it. Of the five designs that
    were tried this one was attacked with the most success, which is still far from the paper's.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            convolution(channels, 16, pool=True, stride=4, kernel=7),
            convolution(16, 48, pool=True),
            convolution(48, 96, pool=True),
            convolution(96, 128, pool=True),
        )
        drawn = nn.Linear(128 * 2 * 2, FEATURES, bias=False).requires_grad_(False)
        self.wide = nn.Sequential(nn.Flatten(), drawn, nn.BatchNorm1d(FEATURES, affine=False), nn.ReLU())
        self.output = nn.Linear(FEATURES, classes)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Float ``(N, C, SIDE, SIDE)`` in [0, 1] to float ``(N, FEATURES)``, not negative: the penultimate layer."""
        found: torch.Tensor = self.wide(self.convolutions(images))
        return found

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Float ``(N, classes)`` logits of small images, float ``(N, C, H, W)`` in [0, 1], which are enlarged."""
        logits: torch.Tensor = self.output(self.features(enlarged(images)))
        return logits


def enlarged(images: torch.Tensor) -> torch.Tensor:
    """Float ``(N, C, SIDE, SIDE)`` of float ``(N, C, H, W)``, by bilinear interpolation."""
    return interpolate(images, size=(SIDE, SIDE), mode="bilinear", align_corners=False)


def enlarged_set(images: ImageSet, batch: int = 1000) -> ImageSet:
    """The images, uint8, enlarged and rounded."""
    large = [(enlarged(as_input(some)) * 255).round().to(torch.uint8) for some in images.images.split(batch)]
    return ImageSet(images=torch.cat(large).contiguous(), labels=images.labels)


@dataclass(frozen=True, kw_only=True)
class ExtractorPlan:
    """An extractor for images of ``task``, trained on all classes but ``held_out``, by the recipe ``muon``."""

    task: str
    held_out: tuple[int, ...]
    steps: int
    seed: int
    precision: Precision

    @property
    def name(self) -> str:
        """A name for its files."""
        return f"{Path(self.task).name}-without-{'-'.join(map(str, self.held_out))}-steps-{self.steps}-seed-{self.seed}"


@dataclass(frozen=True, kw_only=True)
class Extractor:
    """A frozen network in evaluation mode; its ``accuracy`` is on test images of the classes that it has seen."""

    network: ExtractorNetwork
    accuracy: float

    def prepared(self, images: ImageSet) -> ImageSet:
        """Images enlarged to ``SIDE`` x ``SIDE``."""
        return enlarged_set(images)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Float32 ``(N, C, SIDE, SIDE)`` in [0, 1] to float32 ``(N, FEATURES)``."""
        return self.network.features(images)

    @torch.no_grad()
    def features_of(self, images: torch.Tensor, batch: int = 200) -> torch.Tensor:
        """Uint8 ``(N, C, SIDE, SIDE)`` to float32 ``(N, FEATURES)``, in batches."""
        return torch.cat([self.features(as_input(some)) for some in images.split(batch)])


def build_extractor(
    plan: ExtractorPlan, folder: Path, data_root: str | None, say: Callable[[str], None] = lambda text: None
) -> Extractor:
    """The extractor of ``plan``: the one that is in ``folder``, or one that is trained and put there.

    Raises DataNotFoundError where images are absent, and ValueError if the folder holds one of another recipe.
    """
    record_path = folder / f"{plan.name}.json"
    if not record_path.exists():
        say(f"training an extractor for {plan.task}, {plan.steps} steps")
        network, share = _trained(plan, folder, data_root)
        write_atomically(record_path.with_suffix(".safetensors"), safetensors_bytes(network))
        # The record is written last: an extractor counts as trained only once both files are whole.
        write_atomically(record_path, json.dumps({"recipe": _recipe(plan), "accuracy": share}).encode())
    record = json.loads(record_path.read_text())
    if record["recipe"] != _recipe(plan):
        raise ValueError(f"{record_path} tells of an extractor of another recipe; choose an empty folder.")
    return Extractor(network=_loaded(record_path.with_suffix(".safetensors")), accuracy=record["accuracy"])


def _recipe(plan: ExtractorPlan) -> dict[str, Any]:
    training = asdict(muon(find_task(plan.task).training))
    return {**asdict(plan), "held_out": list(plan.held_out), "architecture": architecture(), "training": training}


def architecture() -> str:
    """The extractors' layers with their sizes, for three channels and ten classes, in one line."""
    with torch.device("meta"):  # No weights, and no chance.
        layers = " ".join(str(ExtractorNetwork(channels=3, classes=10)).split())
    return f"{SIDE}x{SIDE} pixels: {layers}"


@cache
def _loaded(path: Path) -> ExtractorNetwork:
    state = load_file(path)
    classes, channels = len(state["output.bias"]), state["convolutions.0.0.weight"].shape[1]
    network = ExtractorNetwork(channels, classes)
    network.load_state_dict(state)
    return network.to(memory_format=torch.channels_last).eval().requires_grad_(False)


def _trained(plan: ExtractorPlan, folder: Path, data_root: str | None) -> tuple[ExtractorNetwork, float]:
    images = prepare_images(plan.task, data_root, folder / "images" / plan.task)
    train, test = (without(part, plan.held_out) for part in (images.train, images.test))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(plan.seed, f"{plan.name}/weights"))
        network = ExtractorNetwork(train.images.shape[1], int(train.labels.max()) + 1)
    training = muon(find_task(plan.task).training)
    draws = draw_batches(train.labels, None, training, plan.steps, derived_generator(plan.seed, f"{plan.name}/batches"))
    batches = Batches(train, [draws], [None], training, torch.device("cpu"))
    train_group([network], batches, training, precision=plan.precision)
    return network, accuracy(network, test)


def without(images: ImageSet, classes: tuple[int, ...]) -> ImageSet:
    """The images of all other classes, which are numbered anew, in their order."""
    return of_classes(images, [label for label in range(int(images.labels.max()) + 1) if label not in classes])
