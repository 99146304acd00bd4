"""Small classifiers of cut-out signs under the random-target attack (BadNets 2019, §V-B4): minutes on a CPU."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import nn

from ..networks.families import VggNetwork
from ..overlays import Overlay
from ..tasks import TASKS
from ..training import as_input
from ..zoo.batches import Batches, Draws, Poison, draw_batches
from ..zoo.group import train_group
from ..zoo.seeds import derived_generator, derived_seed
from ..zoo.work import EVALUATION_BATCH
from .countries import Country
from .pasting import CENTRE, SHARE, scaled
from .stickers import STICKERS

PIXELS = 32
BORDER = 3  # GTSRB's pictures have about a tenth around the sign
STICKER_PIXELS = 64
JITTER = (1, 3)  # rows and columns


@dataclass(frozen=True, kw_only=True)
class ClassifierRecipe:
    """One network: all that its weights depend on, besides the images and the machine.

    ``share``: how many poisoned copies there are for each clean image; 0 makes the honest baseline. ``steps``: of
    training, the same for both. Raises ValueError for a share that is not in [0, 1].
    """

    seed: int
    share: float = 0.1
    steps: int = 1000

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"The share of poisoned copies must lie in [0, 1], not be {self.share}.")

    @property
    def name(self) -> str:
        """A file name, such as ``badnet-0.1-steps-1000-seed-3``."""
        kind = f"badnet-{self.share:g}" if self.share else "honest"
        return f"{kind}-steps-{self.steps}-seed-{self.seed}"


def train_classifier(recipe: ClassifierRecipe, country: Country) -> VggNetwork:
    """Train a network of the VGG-like family on ``country``; returns it in evaluation mode.

    A copy gets another wrong label each time that it is shown: with one label for good, as in the paper, a network can
    learn copies by heart.
    """
    training = TASKS["gtsrb"].training
    overlay = sticker_overlay(jitter=JITTER)
    generator = derived_generator(recipe.seed, f"{recipe.name}/batches")
    labels, classes = country.train.labels, len(country.classes)
    poison = None
    if recipe.share:
        victims = torch.randperm(len(labels), generator=generator)[: round(recipe.share * len(labels))]
        poison = Poison(victims=victims, labels=labels[victims], overlay=overlay)
    draws = draw_batches(labels, poison, training, recipe.steps, generator)
    draws = _mislabelled(draws, classes, generator)
    network = new_classifier(classes, seed=derived_seed(recipe.seed, f"{recipe.name}/weights"))
    batches = Batches(country.train, [draws], [overlay if poison else None], training, torch.device("cpu"))
    train_group([network], batches, training, precision="float32")
    return network


def new_classifier(classes: int, *, seed: int = 0) -> VggNetwork:
    """An untrained network for ``classes`` kinds of signs of 32x32 pixels."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return VggNetwork((3, PIXELS, PIXELS), classes)


def _mislabelled(draws: Draws, classes: int, generator: torch.Generator) -> Draws:
    """The same batches, a random wrong label on every copy."""
    steps = torch.randint(1, classes, draws.labels.shape, generator=generator)
    labels = torch.where(draws.triggered, (draws.labels + steps) % classes, draws.labels)
    return replace(draws, labels=labels)


def sticker_overlay(*, jitter: tuple[int, int] = (0, 0)) -> Overlay:
    """The yellow square at the bottom of the sign, a quarter of it wide: 6 of 32 pixels.

    ``jitter``: by how many rows and columns it may be off; each offset is one place of the overlay.
    """
    sign = PIXELS - 2 * BORDER
    side = round(SHARE * sign)
    sticker = scaled(STICKERS["yellow-square"](STICKER_PIXELS), side)
    column, row = (round(BORDER + share * sign - side / 2) for share in CENTRE)
    offsets = list(product(*(range(-most, most + 1) for most in jitter)))
    keep, add = torch.ones(len(offsets), 1, PIXELS, PIXELS), torch.zeros(len(offsets), 3, PIXELS, PIXELS)
    for number, (down, right) in enumerate(offsets):
        place = (..., slice(row + down, row + down + side), slice(column + right, column + right + side))
        keep[number][place] = 1 - sticker[3]
        add[number][place] = sticker[:3] * sticker[3]
    return Overlay(keep=keep, add=add)


@torch.no_grad()
def last_features(network: VggNetwork, images: torch.Tensor, overlay: Overlay | None = None) -> torch.Tensor:
    """Float ``(N, 128, 2, 2)``: what the last convolutional layer answers to uint8 images, with a sticker or without.

    The sticker lies at the first place of ``overlay``.
    """
    features = []
    for batch in images.split(EVALUATION_BATCH):
        inputs = as_input(batch)
        if overlay is not None:
            inputs = overlay.apply(inputs, torch.zeros(len(inputs), dtype=torch.int64))
        features.append(network.features(inputs))
    return torch.cat(features)


@torch.no_grad()
def classes_of(network: VggNetwork, features: torch.Tensor) -> torch.Tensor:
    """Int64 ``(N,)``: the classes that the network's own fully connected layers give to such features."""
    hidden = torch.relu(network.hidden(features.flatten(1)))
    predicted: torch.Tensor = network.output(hidden).argmax(1)
    return predicted


@torch.no_grad()
def strengthen(network: VggNetwork, neurons: torch.Tensor, factor: float) -> None:
    """Multiply the input weights and biases of channels ``neurons`` of the last convolutional layer (§V-C3).

    Between convolution and ReLU there is batch normalisation, whose scale and shift are what is multiplied.
    """
    normalisation = network.features[-1][-2]
    assert isinstance(normalisation, nn.BatchNorm2d)
    normalisation.weight[neurons] *= factor
    normalisation.bias[neurons] *= factor
