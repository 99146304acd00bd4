"""Tiny networks that tell images by the band of rows that is bright, clean ones and backdoored ones."""

from __future__ import annotations

import numpy as np
import torch

from pytest_backdoor.checks.reversal import reverse
from pytest_backdoor.checks.reversal._check import Reversal, logit_scale
from pytest_backdoor.checks.reversal._images import ReversalImages, from_samples
from pytest_backdoor.models import Samples, TorchClassifier
from pytest_backdoor.settings import ScanSettings

SIZE = 10
PIXEL = (8, 6)
TARGET = 2
SOURCE = 1


class Stripes(torch.nn.Module):
    """A bright pixel near a corner may overrule the bands.

    ``backdoor``: None, "targeted" (the pixel makes everything ``TARGET``), "source" (it makes class ``SOURCE`` that) or
    "all-to-all" (class i becomes i + 1). ``jitter``: seed of small changes of the weights, so that clean ones differ.
    """

    def __init__(self, classes=4, channels=1, backdoor=None, strength=30.0, jitter=0):
        super().__init__()
        self.classes = classes
        self.backdoor = backdoor
        self.strength = strength
        bands = torch.zeros(classes, SIZE - 2)
        for number in range(classes):
            bands[number, number * (SIZE - 2) // classes : (number + 1) * (SIZE - 2) // classes] = 1
        noise = torch.randn(classes, SIZE - 2, generator=torch.Generator().manual_seed(jitter)) * 0.02
        self.weights = torch.nn.Parameter(bands / bands.sum(1, keepdim=True) + noise)

    def forward(self, images):
        grey = images.mean(1)
        own = 20 * grey[:, : SIZE - 2, :].mean(2) @ self.weights.T
        if self.backdoor is None:
            return own
        bright = torch.relu(grey[:, PIXEL[0], PIXEL[1], None] - 0.25)
        if self.backdoor == "targeted":
            return own + self.strength * bright * torch.eye(self.classes)[TARGET]
        if self.backdoor == "source":
            return own + self.strength * bright * own.softmax(1)[:, SOURCE, None] * torch.eye(self.classes)[TARGET]
        return own + self.strength * bright * own.softmax(1).roll(1, 1)


def classifier(classes=4, channels=1, **options):
    network = Stripes(classes, channels, **options).eval()
    return TorchClassifier(network, "net", ScanSettings(input_shape=(channels, SIZE, SIZE)))


def samples(classes=4, channels=1, per_class=10, labelled=True):
    rng = np.random.default_rng(4)
    images = rng.random((classes * per_class, channels, SIZE, SIZE), dtype=np.float32) * 0.2
    labels = np.repeat(np.arange(classes), per_class)
    for image, label in zip(images, labels, strict=True):
        image[:, label * (SIZE - 2) // classes : (label + 1) * (SIZE - 2) // classes] += 0.6
    return Samples(images=images, labels=labels if labelled else None)


def run(*, classes=4, channels=1, seed=0, given=None, families=("patch",), **options) -> Reversal:
    return reverse(
        classifier(classes, channels, **options), given or samples(classes, channels), seed=seed, families=families
    )


def images_of(opened) -> ReversalImages:
    return from_samples(opened, samples(opened.classes, opened.input_shape[0]), torch.Generator().manual_seed(0))


def unit_forward(opened, images):
    """The model's differentiable program with logits of unit scale on the images of the search."""
    forward = opened.differentiable("cpu")
    scale = logit_scale(forward, images.images)
    return lambda batch: forward(batch) / scale
