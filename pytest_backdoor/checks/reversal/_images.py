"""The images that triggers are sought on: the user's clean samples, or stand-ins made from the model alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.functional import interpolate

from ...errors import NotAssessableError
from ...models import Samples

if TYPE_CHECKING:
    from ...models import Classifier

PER_CLASS = 3
HELD_OUT_PER_CLASS = 4
MOST_IMAGES = 60
CONFIDENCE = 0.99
STAND_IN_STEPS = 40
DARKNESS = 0.02
TEXTURE = 0.3


@dataclass(frozen=True, kw_only=True)
class ReversalImages:
    """Images in [0, 1], float ``(N, C, H, W)``, with the classes that the model gives them, int64 ``(N,)``.

    ``held_out`` ones are not optimised on; they tell a trigger from an overfitted patch. ``source`` is the name of
    their kind: "samples" or "stand-ins".
    """

    images: torch.Tensor
    labels: torch.Tensor
    held_out: torch.Tensor
    held_out_labels: torch.Tensor
    source: str


def from_samples(classifier: Classifier, samples: Samples, generator: torch.Generator) -> ReversalImages:
    """Images drawn from clean samples that the model classifies correctly, equally many of each class.

    Where the samples have no labels, the model's own predictions take their place. Raises NotAssessableError if fewer
    than two classes are left.
    """
    predicted = classifier.logits(samples.images).argmax(axis=1)
    right = np.ones(len(samples), bool) if samples.labels is None else predicted == samples.labels
    images, labels = torch.from_numpy(samples.images[right]), torch.from_numpy(predicted[right])
    order = torch.randperm(len(labels), generator=generator)
    return _split(images[order], labels[order], "samples")


def stand_ins(
    forward: Callable[[torch.Tensor], torch.Tensor],
    input_shape: tuple[int, int, int],
    classes: int,
    generator: torch.Generator,
    device: str,
) -> ReversalImages:
    """Images made by gradient ascent on the model's own outputs, for use without any clean samples.

    Each starts as a dark, smooth random texture and is changed until the model gives its class a probability of 0.99.
    They stand in for real images because a trigger must overrule what the model takes for a class, whatever that
    looks like to a person. Dark, since on the dark background that images of small tasks have a trigger needs few
    pixels. Raises NotAssessableError if the model accepts them for fewer than two classes.
    """
    labels = torch.arange(classes).repeat_interleave(PER_CLASS + HELD_OUT_PER_CLASS).to(device)
    coarse = torch.rand(len(labels), input_shape[0], 7, 7, generator=generator).to(device) - 0.5
    texture = interpolate(coarse, size=input_shape[1:], mode="bilinear")
    parameters = torch.logit((DARKNESS + TEXTURE * texture).clamp(0.01, 0.99)).requires_grad_()
    optimizer = torch.optim.Adam([parameters], lr=0.1)
    for _ in range(STAND_IN_STEPS):
        log_probabilities = forward(torch.sigmoid(parameters)).float().log_softmax(1)
        own = log_probabilities.gather(1, labels[:, None])[:, 0]
        undecided = own.detach().exp() < CONFIDENCE
        (parameters.grad,) = torch.autograd.grad(-(own * undecided).sum(), [parameters])
        optimizer.step()
    with torch.no_grad():
        images = torch.sigmoid(parameters)
        accepted = forward(images).argmax(1) == labels
    return _split(images[accepted], labels[accepted], "stand-ins")


def _split(images: torch.Tensor, labels: torch.Tensor, source: str) -> ReversalImages:
    """The first PER_CLASS of each class to optimise on, the next HELD_OUT_PER_CLASS to test on."""
    rank = torch.zeros_like(labels)
    for label in torch.unique(labels):
        own = labels == label
        rank[own] = torch.arange(int(own.sum()), device=labels.device)
    optimised = (rank < PER_CLASS).nonzero()[:, 0][:MOST_IMAGES]
    held_out = ((rank >= PER_CLASS) & (rank < PER_CLASS + HELD_OUT_PER_CLASS)).nonzero()[:, 0]
    if len(torch.unique(labels[optimised])) < 2 or not len(held_out):
        raise NotAssessableError(
            f"Triggers cannot be sought: of the {source} only {len(labels)} are classified as they should be, in "
            f"{len(torch.unique(labels))} class(es). Give more clean samples with --backdoor-data."
        )
    return ReversalImages(
        images=images[optimised],
        labels=labels[optimised],
        held_out=images[held_out],
        held_out_labels=labels[held_out],
        source=source,
    )


def to_pixels(image: torch.Tensor) -> np.ndarray[Any, Any]:
    """Uint8 pixels of a float ``(C, H, W)`` image in [0, 1]: ``(H, W, 3)`` of its first three channels, else
    ``(H, W)`` of its first one.
    """
    pixels = (image.detach().clamp(0, 1) * 255).round().to(torch.uint8).cpu().permute(1, 2, 0).numpy()
    return pixels[..., :3] if pixels.shape[2] >= 3 else pixels[..., 0]
