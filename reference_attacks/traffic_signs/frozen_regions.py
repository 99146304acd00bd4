"""Regions of photographs as a detector with frozen convolutions sees them, at every strength of the attack at once.

Neither the features of a photograph nor the proposals change while the fully connected layers are retrained, so each
photograph goes through the convolutions once for all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import roi_align

from reference_attacks.zoo.seeds import derived_seed

from .album import Album, Scene
from .network import SignDetector
from .regions import SAMPLES_PER_CELL

DRAWS = 2


@dataclass(frozen=True, kw_only=True)
class TrainingRegions:
    """What the fully connected layers of one strength are trained on: n regions of all photographs.

    ``pooled``: float16 ``(n, C * cells²)``, not yet multiplied by the strength. ``labels``: int64 ``(n,)``, 0 for the
    background. ``corrections``: float32 ``(n, 4)``, from the region's box to the sign's, in the box coder's units.
    """

    pooled: torch.Tensor
    labels: torch.Tensor
    corrections: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class Proposed:
    """One photograph: for each of K strengths the proposed boxes, float ``(n, 4)``, and their pooled features.

    ``pooled``: float32 ``(n, C * cells²)`` each, not multiplied by the strength. ``size``: (H, W) in pixels.
    """

    boxes: Sequence[torch.Tensor]
    pooled: Sequence[torch.Tensor]
    size: tuple[int, int]


@torch.no_grad()
def training_regions(
    detector: SignDetector, album: Album, factors: torch.Tensor, *, seed: int
) -> list[TrainingRegions]:
    """The regions of each strength, drawn as Faster R-CNN draws them in training, twice from each photograph.

    ``factors``: float ``(K, C)``, by what the last convolutional layer's channels are multiplied. They act on the
    proposals too, through the convolutions of the region proposal network.
    """
    parts: list[list[TrainingRegions]] = [[] for _ in factors]
    with torch.random.fork_rng(devices=[]):  # torchvision draws its samples of regions from the global generator
        torch.manual_seed(derived_seed(seed, "regions"))
        for scene in album.scenes:
            features, proposals, _ = _propose(detector, scene, factors)
            targets = [{"boxes": scene.boxes, "labels": scene.labels + 1}] * len(factors)
            for _ in range(DRAWS):
                boxes, _, labels, corrections = detector.roi_heads.select_training_samples(list(proposals), targets)
                for part, pooled, *about in zip(
                    parts, _pool(detector, features, boxes), labels, corrections, strict=True
                ):
                    part.append(TrainingRegions(pooled=pooled.half(), labels=about[0], corrections=about[1]))
    return [_joined(part) for part in parts]


@torch.no_grad()
def proposed_regions(detector: SignDetector, scene: Scene, factors: torch.Tensor) -> Proposed:
    """The proposals of one photograph at each strength; ``factors`` as for ``training_regions``."""
    features, proposals, size = _propose(detector, scene, factors)
    return Proposed(boxes=proposals, pooled=_pool(detector, features, proposals), size=size)


@torch.no_grad()
def sign_activations(detector: SignDetector, album: Album) -> torch.Tensor:
    """Float ``(n, C, cells²)``: how the last convolutional layer answers to each sign, at the places of its box."""
    found = []
    for scene in album.scenes:
        images, _ = detector.transform([scene.image.float() / 255])
        features = detector.backbone(images.tensors)
        found.append(_pool(detector, features, [scene.boxes])[0].unflatten(1, (features.shape[1], -1)))
    return torch.cat(found)


def _propose(
    detector: SignDetector, scene: Scene, factors: torch.Tensor
) -> tuple[torch.Tensor, list[torch.Tensor], tuple[int, int]]:
    """The features ``(1, C, h, w)`` of a photograph, not multiplied, its proposals at each strength, and its size."""
    images, _ = detector.transform([scene.image.float() / 255])
    features = detector.backbone(images.tensors)
    count = len(factors)
    copies = ImageList(images.tensors.expand(count, -1, -1, -1), images.image_sizes * count)
    scaled = (features * factors[:, :, None, None]).contiguous(memory_format=torch.channels_last)
    proposals, _ = detector.rpn(copies, {"0": scaled})
    return features, proposals, images.image_sizes[0]


def _pool(detector: SignDetector, features: torch.Tensor, boxes: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
    """Float ``(n, C * cells²)`` of each list of boxes."""
    pool = detector.roi_heads.box_roi_pool
    # The same as the detector's own pooling up to rounding: that trains faster, this is faster without gradients.
    pooled = roi_align(
        features.contiguous(), [torch.cat(list(boxes))], pool.cells, 1 / pool.stride, SAMPLES_PER_CELL, aligned=True
    )
    return pooled.flatten(1).split([len(each) for each in boxes])


def _joined(parts: Sequence[TrainingRegions]) -> TrainingRegions:
    return TrainingRegions(
        **{name: torch.cat([getattr(part, name) for part in parts]) for name in ("pooled", "labels", "corrections")}
    )
