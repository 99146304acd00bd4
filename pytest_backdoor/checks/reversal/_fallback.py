"""What is measured on a model that has no gradients."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .._base import Measurement
from ._evidence import draw, encode_png
from ._gradient_free import FoundTrigger, search_triggers
from ._images import from_prototypes, from_samples, to_pixels
from ._search import AGNOSTIC
from ._smallest import SmallestTrigger

if TYPE_CHECKING:
    from ...calibration import DetectorPack
    from ...models import Samples, Subject
    from ._images import ReversalImages

BUDGET = 200_000
COMPONENT = "reversal-without-gradients"


def measure_without_gradients(
    subject: Subject, samples: Samples | None, pack: DetectorPack, *, seed: int, reason: str
) -> Measurement:
    """The smallest trigger that forward passes alone find, which nothing is judged by.

    A weaker search cannot reassure, and its sizes cannot be compared with what the gradients of clean models lead to.
    The score is ln(image area / size). ``reason``: why there are no gradients, a sentence.
    """
    images = _images(subject, samples, pack, seed)
    found = search_triggers(
        subject.classifier.logits,
        images.images.numpy(),
        images.labels.numpy(),
        subject.classifier.classes,
        budget=BUDGET,
        generator=np.random.default_rng(seed),
    )
    smallest = min(found[:-1], key=lambda trigger: trigger.size)
    if found[-1].size < 0.5 * smallest.size:
        smallest = found[-1]
    success = _held_out_success(subject, smallest, images)
    evidence = _evidence(subject, smallest, success, images)
    goal = "leave their class" if smallest.target == AGNOSTIC else f"fall into class {evidence['target_name']}"
    return Measurement(
        components={COMPONENT: math.log(evidence["image_area"] / max(smallest.size, 1))},
        pack=None,
        suspicion="",
        reassurance="",
        unjudged=(
            f"{reason} A search without gradients, which is weaker, found a trigger of {smallest.size} of "
            f"{evidence['image_area']} pixels that makes {success:.0%} of {len(images.held_out)} held-out images "
            f"{goal}."
        ),
        remedy="",
        evidence=evidence,
        seed=seed,
    )


def _images(subject: Subject, samples: Samples | None, pack: DetectorPack, seed: int) -> ReversalImages:
    generator = torch.Generator().manual_seed(seed)
    if samples is not None:
        return from_samples(subject.classifier, samples, generator)

    def forward(batch: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(subject.classifier.logits(batch.numpy()))

    return from_prototypes(forward, pack.prototypes, subject.classifier.classes, generator, "cpu")


def _held_out_success(subject: Subject, trigger: FoundTrigger, images: ReversalImages) -> float:
    shown = images.held_out.numpy() * (1 - trigger.mask) + trigger.pattern * trigger.mask
    predicted = subject.classifier.logits(shown.astype(np.float32)).argmax(axis=1)
    labels = images.held_out_labels.numpy()
    if trigger.target == AGNOSTIC:
        return float((predicted != labels).mean())
    others = labels != trigger.target
    return float((predicted[others] == trigger.target).mean()) if others.any() else 0.0


def _evidence(subject: Subject, trigger: FoundTrigger, success: float, images: ReversalImages) -> dict[str, Any]:
    mask, pattern = torch.from_numpy(trigger.mask), torch.from_numpy(trigger.pattern)
    drawn = SmallestTrigger(
        target=trigger.target, mask=mask, pattern=pattern, size=float(trigger.size), success=success
    )
    return {
        "gradient_free": True,
        "target_class": None if trigger.target == AGNOSTIC else trigger.target,
        "target_name": None if trigger.target == AGNOSTIC else subject.class_name(trigger.target),
        "mask_size": float(trigger.size),
        "image_area": mask.numel(),
        "flipped": round(success, 4),
        "flipped_of": len(images.held_out),
        "images": images.source,
        "trigger_png": encode_png(to_pixels(pattern * mask)),
        "mask_png": encode_png(to_pixels(mask)),
        "triggered_png": encode_png(to_pixels(drawn.apply(images.held_out[:1])[0])),
        "trigger_drawing": draw(drawn),
    }
