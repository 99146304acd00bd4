"""Reverse triggers on one object detector."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ...errors import NotAssessableError
from .._threads import single_threaded, usable_cores
from ._box_images import BoxImages, choose_boxes, labels_of
from ._box_patch import BoxPatch
from ._box_search import RegionForward, SearchedBoxes, search_boxes
from ._score import FamilyScore, family_score
from ._search import no_guide

if TYPE_CHECKING:
    import numpy as np

    from ...calibration import ClassStatistics
    from ...models import Detector

MOST_CLASSES = 24
BACKGROUND = 0
WHOLE_BOX = (("over the whole", (0.5, 0.5)),)


@dataclass(frozen=True, kw_only=True)
class BoxReversal:
    """What was found on one object detector.

    ``images``: what it was sought on. ``forward``: the detector as it was searched, an image in [0, 1] and regions to
    logits of unit scale.
    """

    searched: SearchedBoxes
    images: BoxImages
    forward: RegionForward

    def score(self, statistics: ClassStatistics | None = None) -> FamilyScore:
        """By class ``statistics`` of clean detectors where they are given; else objects that vanish do not count.

        Raises NotAssessableError if they are of another search than this.
        """
        margins = self.searched.margins.numpy(force=True)
        if statistics is not None and statistics.mean.shape != margins.shape:
            raise NotAssessableError(
                "The detector pack's class statistics of box patches are of another search.",
                remedy="Build the pack again: python -m reference_attacks detection references.",
            )
        return family_score(margins, statistics, easiest=BACKGROUND)


def reverse_detector(
    detector: Detector, photographs: Iterable[np.ndarray[Any, Any]], *, device: str = "cpu"
) -> BoxReversal:
    """Seek a patch on the boxes of ``detector`` for every class.

    ``photographs``: clean ones, float32 ``(C, H, W)`` in [0, 1], in the order in which they are looked at. The same
    photographs give the same result on the same machine. Raises NotAssessableError if the detector has too many
    classes or finds too little on the photographs, NotDifferentiableError if it has no gradients.

    The logits are divided by their root mean square, as those of classifiers are.
    """
    if detector.classes > MOST_CLASSES:
        raise NotAssessableError(
            f"The object detector has {detector.classes} classes; seeking a patch for each of more than {MOST_CLASSES} "
            "would take too long.",
            remedy="Audit the part that classifies a box as a model of its own.",
        )
    with single_threaded():
        images = choose_boxes(detector, photographs, device)
        first = images.images[0]
        raw = detector.differentiable(device, first.image.numpy(force=True))
        forward = _scaled(raw, _logit_scale(raw, images))
        targets = torch.arange(detector.classes, device=device)
        workers = usable_cores() if detector.thread_safe and device == "cpu" else 1
        searched = search_boxes(forward, images, targets, BoxPatch(channels=detector.channels), workers=workers)
        if not searched.moved:
            raise no_guide("are all zero")
        if not bool(searched.success.any()):
            _require_ability(forward, images, targets, detector.channels)
        return BoxReversal(searched=searched, images=images, forward=forward)


def _scaled(forward: RegionForward, scale: float) -> RegionForward:
    def scaled(image: torch.Tensor, regions: torch.Tensor) -> torch.Tensor:
        return forward(image, regions) / scale

    return scaled


@torch.no_grad()
def _logit_scale(forward: RegionForward, images: BoxImages) -> float:
    """The root mean square of the centred logits of clean objects. Raises NotAssessableError if it is no use."""
    logits = torch.cat([forward(entry.image, entry.regions).float() for entry in images.images])
    scale = float((logits - logits.mean(1, keepdim=True)).square().mean().sqrt())
    if not math.isfinite(scale) or scale == 0:
        raise NotAssessableError("Triggers cannot be sought: the detector's class scores are all alike or not finite.")
    return scale


def _require_ability(forward: RegionForward, images: BoxImages, targets: torch.Tensor, channels: int) -> None:
    """Raise NotAssessableError if not even objects painted over altogether are taken for any other class."""
    whole = BoxPatch(channels=channels, share=1.0, side=16, steps=6, places=WHOLE_BOX)
    if not bool(search_boxes(forward, images, targets, whole).success.any()):
        raise NotAssessableError(
            f"No patch changed the class of any of {len(labels_of(images.held_out))} objects, not even one that covers "
            "them: the search failed. Check input_range, mean, std and layout; if they are right, the detector may be "
            "built to blind this check."
        )
