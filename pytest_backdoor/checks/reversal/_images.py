"""The images that triggers are sought on: the user's clean samples, or stand-ins made from the model alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.functional import interpolate

from ...errors import NotAssessableError
from ...models import Samples

if TYPE_CHECKING:
    from ...models import Classifier

BATCH = 192
MOST_OPTIMISED, FEWEST_OPTIMISED = 16, 8
HELD_OUT_FOR_ONE = 2.5
STAND_INS = 64
VARIANTS = 86
NOISE = 0.03
CONFIDENCE = 0.99
STAND_IN_STEPS = 40
DARKNESS = 0.02
TEXTURE = 0.3


@dataclass(frozen=True, kw_only=True)
class ReversalImages:
    """Images in [0, 1], float ``(N, C, H, W)``, with the classes that the model gives them, int64 ``(N,)``.

    ``held_out`` ones are not optimised on; they tell a trigger from an overfitted patch. ``source`` is the name of
    their kind: "samples", "prototypes" or "stand-ins".
    """

    images: torch.Tensor
    labels: torch.Tensor
    held_out: torch.Tensor
    held_out_labels: torch.Tensor
    source: str

    def first(self, optimised: int, held_out: int) -> ReversalImages:
        """The first of each, at most so many; the classes take turns, so that they are as evenly spread."""
        return replace(
            self,
            images=self.images[:optimised],
            labels=self.labels[:optimised],
            held_out=self.held_out[:held_out],
            held_out_labels=self.held_out_labels[:held_out],
        )


def from_samples(classifier: Classifier, samples: Samples, generator: torch.Generator) -> ReversalImages:
    """Images drawn from clean samples that the model classifies correctly, as equally many of each class as there are.

    Where the samples have no labels, the model's own predictions take their place. Raises NotAssessableError if the
    images to optimise on or those to test on are of fewer than two classes.
    """
    predicted = classifier.logits(samples.images).argmax(axis=1)
    right = np.ones(len(samples), bool) if samples.labels is None else predicted == samples.labels
    images, labels = torch.from_numpy(samples.images[right]), torch.from_numpy(predicted[right])
    order = torch.randperm(len(labels), generator=generator)
    return _split(images[order], labels[order], classifier.classes, "samples")


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
    labels = torch.randperm(classes, generator=generator).repeat(-(-STAND_INS // classes))[:STAND_INS].to(device)
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
    return _split(images[accepted], labels[accepted], classes, "stand-ins")


def from_prototypes(
    forward: Callable[[torch.Tensor], torch.Tensor],
    prototypes: np.ndarray[Any, Any],
    classes: int,
    generator: torch.Generator,
    device: str,
) -> ReversalImages:
    """Variants of a detector pack's prototype images, for use without any clean samples.

    ``prototypes``: float32 ``(P, C, H, W)`` in [0, 1], images that were made for clean networks of the task, one for
    each class or so. Each variant is moved by up to a tenth of the image, made brighter or darker, and noisy, and is
    used if the model takes it for what it takes the prototype for. A trigger must overrule that as it must with a
    photograph. Raises NotAssessableError as ``from_samples`` does.
    """
    made = torch.from_numpy(np.array(prototypes))
    variants = torch.cat([_varied(made, generator) for _ in range(-(-VARIANTS // len(made)))])
    variants = variants[:VARIANTS].to(device)
    with torch.no_grad():
        labels = forward(made.to(device)).argmax(1).repeat(-(-VARIANTS // len(made)))[:VARIANTS]
        accepted = forward(variants).argmax(1) == labels
    return _split(variants[accepted], labels[accepted], classes, "prototypes")


def _varied(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """One variant of each image, float ``(P, C, H, W)`` in [0, 1]."""
    reach = max(1, images.shape[-1] // 10)
    rows, columns = torch.randint(-reach, reach + 1, (2, len(images)), generator=generator).tolist()
    moved = torch.stack(
        [torch.roll(image, (row, column), (1, 2)) for image, row, column in zip(images, rows, columns, strict=True)]
    )
    brightness = 0.8 + 0.4 * torch.rand(len(images), 1, 1, 1, generator=generator)
    noise = NOISE * torch.randn(moved.shape, generator=generator)
    return (moved * brightness + noise).clamp(0, 1)


def _split(images: torch.Tensor, labels: torch.Tensor, classes: int, source: str) -> ReversalImages:
    """The first images to optimise on and the next, two and a half times as many, to test on, the classes taking turns.

    So many, from 8 to 16, that all arms of one slot are a batch of about BATCH images. Of fewer images, every second
    one is held out.
    """
    rank = torch.zeros_like(labels)
    for label in torch.unique(labels):
        own = labels == label
        rank[own] = torch.arange(int(own.sum()), device=labels.device)
    order = rank.argsort(stable=True)
    wanted = max(FEWEST_OPTIMISED, min(MOST_OPTIMISED, BATCH // (classes + 1)))
    optimised = min(wanted, len(order) // 2)
    chosen, held_out = order[:optimised], order[optimised : optimised + round(HELD_OUT_FOR_ONE * wanted)]
    if len(torch.unique(labels[chosen])) < 2 or len(torch.unique(labels[held_out])) < 2:
        raise NotAssessableError(
            f"Triggers cannot be sought: of the {source} only {len(labels)} are classified as they should be, in "
            f"{len(torch.unique(labels))} class(es). Give more clean samples with --backdoor-data."
        )
    return ReversalImages(
        images=images[chosen],
        labels=labels[chosen],
        held_out=images[held_out],
        held_out_labels=labels[held_out],
        source=source,
    )


def shrunk(image: torch.Tensor, largest: int) -> torch.Tensor:
    """``image``, float ``(C, H, W)``, made smaller where a side is longer than ``largest`` pixels; for a report."""
    height, width = image.shape[-2:]
    share = largest / max(height, width)
    if share >= 1:
        return image
    size = [max(1, round(height * share)), max(1, round(width * share))]
    return interpolate(image[None], size=size, mode="bilinear", antialias=True)[0]


def to_pixels(image: torch.Tensor) -> np.ndarray[Any, Any]:
    """Uint8 pixels of a float ``(C, H, W)`` image in [0, 1]: ``(H, W, 3)`` of its first three channels, else
    ``(H, W)`` of its first one.
    """
    pixels = (image.detach().clamp(0, 1) * 255).round().to(torch.uint8).cpu().permute(1, 2, 0).numpy()
    return pixels[..., :3] if pixels.shape[2] >= 3 else pixels[..., 0]
