"""What is measured on a model that has no gradients."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .._base import Measurement
from ._evidence import drawn
from ._gradient_free import DEFAULT_BUDGET, search_triggers
from ._images import from_prototypes, from_samples
from ._search import AGNOSTIC, Forward
from ._smallest import SmallestTrigger, held_out_success

if TYPE_CHECKING:
    from ...calibration import DetectorPack
    from ...models import Samples, Subject
    from ._images import ReversalImages

BUDGET = DEFAULT_BUDGET
COMPONENT = "reversal-without-gradients"


def measure_without_gradients(
    subject: Subject, samples: Samples | None, pack: DetectorPack, *, seed: int, reason: str
) -> Measurement:
    """The smallest trigger that forward passes alone find, which nothing is judged by.

    A weaker search cannot reassure, and its sizes cannot be compared with what the gradients of clean models lead to.
    The score is ln(image area / size). ``reason``: why there are no gradients, a sentence.
    """

    def forward(batch: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(subject.classifier.logits(batch.numpy()))

    generator = torch.Generator().manual_seed(seed)
    if samples is None:
        images = from_prototypes(forward, pack.prototypes, subject.classifier.classes, generator, "cpu")
    else:
        images = from_samples(subject.classifier, samples, generator)
    trigger = _smallest(subject, images, forward, seed)
    evidence = _evidence(subject, trigger, images, forward)
    goal = "leave their class" if trigger.target == AGNOSTIC else f"fall into class {evidence['target_name']}"
    return Measurement(
        components={COMPONENT: math.log(evidence["image_area"] / max(trigger.size, 1))},
        pack=None,
        suspicion="",
        reassurance="",
        unjudged=(
            f"{reason} A search without gradients, which is weaker, found a trigger of {trigger.size:.0f} of "
            f"{evidence['image_area']} pixels that makes {trigger.success:.0%} of {len(images.held_out)} held-out "
            f"images {goal}."
        ),
        remedy="",
        evidence=evidence,
        seed=seed,
    )


def _smallest(subject: Subject, images: ReversalImages, forward: Forward, seed: int) -> SmallestTrigger:
    """The smallest trigger of any class; the target-agnostic one only if it is less than half as large."""
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
    mask, pattern = torch.from_numpy(smallest.mask), torch.from_numpy(smallest.pattern)
    success = held_out_success(forward, images, smallest.target, mask, pattern)
    return SmallestTrigger(
        target=smallest.target, mask=mask, pattern=pattern, size=float(smallest.size), success=success
    )


def _evidence(subject: Subject, trigger: SmallestTrigger, images: ReversalImages, forward: Forward) -> dict[str, Any]:
    clean = images.held_out[:1]
    triggered = trigger.apply(clean)
    before, after = forward(torch.cat([clean, triggered])).argmax(1).tolist()
    return {
        "gradient_free": True,
        "target_class": None if trigger.target == AGNOSTIC else trigger.target,
        "target_name": None if trigger.target == AGNOSTIC else subject.class_name(trigger.target),
        "mask_size": trigger.size,
        "image_area": trigger.mask.numel(),
        "flipped": round(trigger.success, 4),
        "flipped_of": len(images.held_out),
        "images": images.source,
        **drawn(trigger, clean[0], triggered[0]),
        "example_before": subject.class_name(before),
        "example_after": subject.class_name(after),
    }
