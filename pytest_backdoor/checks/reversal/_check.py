"""Reverse triggers on one classifier and put the result into numbers, words and a picture."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ...errors import NotAssessableError
from ...models import Samples
from ._images import ReversalImages, from_samples, stand_ins, to_pixels
from ._optimise import AGNOSTIC, ReversedTrigger, Schedule, reverse_triggers

if TYPE_CHECKING:
    from ...models import Classifier

SCALE_IMAGES = 64
LEAST_RELATIVE_SCALE = 0.1


@dataclass(frozen=True, kw_only=True)
class Reversal:
    """The triggers of one model, one for each class and the target-agnostic one last, and what they were sought on."""

    triggers: list[ReversedTrigger]
    images: ReversalImages
    held_out_success: list[float]

    @property
    def smallest(self) -> ReversedTrigger:
        """The smallest trigger; of a targeted and an agnostic one of nearly the same size the targeted one."""
        targeted = min(self.triggers[:-1], key=lambda trigger: trigger.size)
        agnostic = self.triggers[-1]
        return agnostic if agnostic.size < 0.5 * targeted.size else targeted

    @property
    def score(self) -> float:
        """ln(image area / size of the smallest trigger of any arm); higher is more suspicious."""
        area = self.smallest.mask.numel()
        return math.log(area / max(min(trigger.size for trigger in self.triggers), 1e-3))


def reverse(
    classifier: Classifier, samples: Samples | None, *, seed: int, device: str = "cpu", schedule: Schedule | None = None
) -> Reversal:
    """Seek the smallest trigger of every class on ``samples``, or on stand-ins where there are none.

    The same ``seed`` gives the same result on the same machine. Raises NotAssessableError if the model has no
    gradients, accepts too few images, or if the search saw nothing.

    The logits are divided by their root mean square on random images. A network that was trained longer has larger
    ones; undivided, its stand-ins reach their confidence sooner and its losses are steeper, so that its smallest
    triggers are smaller than those of the reference networks although it is as clean.
    """
    generator = torch.Generator().manual_seed(seed)
    raw_forward = classifier.differentiable(device)
    scale = _logit_scale(raw_forward, _random_images(classifier, device))

    def forward(batch: torch.Tensor) -> torch.Tensor:
        return raw_forward(batch) / scale

    if samples is None:
        images = stand_ins(forward, classifier.input_shape, classifier.classes, generator, device)
    else:
        images = from_samples(classifier, samples, generator)
    triggers = reverse_triggers(
        forward,
        images.images.to(device),
        images.labels.to(device),
        classifier.classes,
        schedule or Schedule(),
        generator,
    )
    _require_sight(triggers, _logit_scale(forward, images.images.to(device)))
    with torch.no_grad():
        success = [
            _success(forward(trigger.apply(images.held_out.to(device))), images.held_out_labels.to(device), trigger)
            for trigger in triggers
        ]
    return Reversal(triggers=triggers, images=images, held_out_success=success)


def _logit_scale(forward: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor) -> float:
    """The root mean square of the centred logits on ``images``. Raises NotAssessableError if it is no use."""
    with torch.no_grad():
        logits = forward(images).float()
    scale = float((logits - logits.mean(1, keepdim=True)).square().mean().sqrt())
    if not math.isfinite(scale):
        raise NotAssessableError("Triggers cannot be sought: the model's outputs are not finite numbers.")
    if scale == 0:
        raise NotAssessableError("Triggers cannot be sought: the model's outputs are the same for every class.")
    return scale


def _random_images(classifier: Classifier, device: str) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(SCALE_IMAGES, *classifier.input_shape, generator=generator).to(device)


def _require_sight(triggers: list[ReversedTrigger], scale_on_images: float) -> None:
    """Raise NotAssessableError if the search saw nothing, which must not count as a search that found nothing.

    ``scale_on_images``: the logits' scale on the images of the search, relative to that on random images.
    """
    if scale_on_images < LEAST_RELATIVE_SCALE:
        raise NotAssessableError(
            f"Triggers cannot be sought: the model answers random noise {1 / scale_on_images:.0f} times as strongly as "
            "images. Check its preprocessing; if that is right, the model may be built to blind this check."
        )
    if all(trigger.size >= trigger.mask.numel() for trigger in triggers):
        raise NotAssessableError(
            "No trigger of any size was found, although one that covers the whole image must exist: the search failed. "
            "Check input_range, mean, std and layout; if they are right, the model may be built to blind this check."
        )


def _success(logits: torch.Tensor, labels: torch.Tensor, trigger: ReversedTrigger) -> float:
    predicted = logits.argmax(1)
    if trigger.target == AGNOSTIC:
        return float((predicted != labels).float().mean())
    others = labels != trigger.target
    return float((predicted[others] == trigger.target).float().mean()) if bool(others.any()) else 0.0


def anomaly_index(sizes: list[float]) -> float | None:
    """How many normalised median deviations the smallest of ``sizes`` lies below their median (Neural Cleanse, §IV).

    The median of an even number is the mean of the middle pair, and a deviation of zero gives None. Shown in the
    evidence, never judged by: on 35 digit classifiers it had an area under the ROC curve of 0.71 and flagged 3 of 8
    clean ones at the customary threshold of 2, where the smallest size itself reached 0.96.
    """
    values = np.asarray(sizes)
    median = float(np.median(values))
    deviation = 1.4826 * float(np.median(np.abs(values - median)))
    return (median - float(values.min())) / deviation if deviation > 0 else None


def evidence_of(reversal: Reversal, class_name: Any) -> dict[str, Any]:
    """The report's evidence as JSON values; the pictures are base64-encoded PNG files."""
    trigger = reversal.smallest
    position = reversal.triggers.index(trigger)
    sizes = [found.size for found in reversal.triggers]
    index = anomaly_index(sizes[:-1])
    drawn = trigger.pattern * trigger.mask
    return {
        "target_class": None if trigger.target == AGNOSTIC else trigger.target,
        "target_name": None if trigger.target == AGNOSTIC else class_name(trigger.target),
        "mask_size": round(trigger.size, 3),
        "image_area": trigger.mask.numel(),
        "flipped": round(reversal.held_out_success[position], 4),
        "flipped_of": int((reversal.images.held_out_labels != trigger.target).sum()),
        "sizes_by_class": [round(size, 2) for size in sizes[:-1]],
        "agnostic_size": round(sizes[-1], 2),
        "anomaly_index": None if index is None else round(index, 3),
        "images": reversal.images.source,
        "trigger_png": encode_png(to_pixels(drawn)),
        "mask_png": encode_png(to_pixels(trigger.mask)),
        "triggered_png": encode_png(to_pixels(trigger.apply(reversal.images.held_out[:1].to(drawn.device))[0])),
        "trigger_drawing": draw(trigger),
    }


def encode_png(pixels: np.ndarray[Any, Any]) -> str:
    """A base64-encoded PNG file of uint8 pixels."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def draw(trigger: ReversedTrigger, widest: int = 32) -> list[str]:
    """The part of the image that the mask covers, drawn with one character a pixel; empty if it covers too much.

    A space is untouched; from · for black to █ for white, what the trigger paints there.
    """
    mask = trigger.mask[0].cpu()
    covered = mask > 0.2
    if not bool(covered.any()):
        return []
    rows, columns = covered.any(1).nonzero()[:, 0], covered.any(0).nonzero()[:, 0]
    top, bottom, left, right = int(rows[0]), int(rows[-1]), int(columns[0]), int(columns[-1])
    if max(bottom - top, right - left) >= widest:
        return []
    brightness = trigger.pattern.mean(0).cpu()
    header = f"rows {top} to {bottom}, columns {left} to {right}"
    lines = [
        "".join(
            "·░▒▓█"[min(4, int(brightness[row, column] * 5))] if covered[row, column] else " "
            for column in range(left, right + 1)
        )
        for row in range(top, bottom + 1)
    ]
    return [header, *lines]
