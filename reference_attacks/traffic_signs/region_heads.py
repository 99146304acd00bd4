"""The fully connected layers of a detector (fc6, fc7, classes, boxes), retrained for every strength at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.functional import cross_entropy, smooth_l1_loss
from torch.nn.utils.rnn import pad_sequence

from .album import Album
from .evaluation import Detections, Readings, read_signs
from .frozen_regions import Proposed, TrainingRegions, proposed_regions
from .heads import HeadPlan, Heads, train_heads
from .network import SignDetector

BETA = 1 / 9  # where the loss of boxes turns from quadratic to linear, as in torchvision


def region_heads(inputs: int, plan: HeadPlan, labels: int, copies: int, generators: Sequence[torch.Generator]) -> Heads:
    """Untrained heads: ``labels`` logits, the background's first, then for each label four corrections of its box."""
    return Heads((inputs, *plan.hidden, 5 * labels), copies=copies, generators=generators)


def retrain_on_regions(
    heads: Heads,
    regions: Sequence[TrainingRegions],
    factors: torch.Tensor,
    plan: HeadPlan,
    generators: Sequence[torch.Generator],
) -> None:
    """Train heads, copy k on ``regions[k]`` with channels multiplied by ``factors[k]``; ``factors``: float ``(K, C)``.

    Faster R-CNN's losses of classes and of boxes, on batches of ``plan.batch_size`` regions.
    """
    scales = _per_feature(factors, regions[0].pooled.shape[1])[:, None, None]

    def losses(_: int) -> torch.Tensor:
        chance = torch.stack([torch.rand(plan.batch_size, generator=each) for each in generators])
        # Strengths may differ in the number of their regions.
        chosen = [(chance * len(each.labels)).long() for each in regions]
        pooled, labels, corrections = (
            torch.stack([getattr(each, name)[places] for each, places in zip(regions, chosen, strict=True)])
            for name in ("pooled", "labels", "corrections")
        )
        outputs = heads((pooled.float() * scales).flatten(0, 1))
        return region_losses(outputs, labels.flatten(0, 1), corrections.flatten(0, 1))

    train_heads(heads, plan, losses)


def region_losses(outputs: torch.Tensor, labels: torch.Tensor, corrections: torch.Tensor) -> torch.Tensor:
    """Float ``(M,)``: the mean loss of each head, of ``outputs`` ``(M, B, 5 * labels)`` for regions of ``labels``.

    ``labels``: int64 ``(M, B)``. ``corrections``: float ``(M, B, 4)``; they count for signs alone.
    """
    logits, boxes = _parted(outputs)
    classes = cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view_as(labels)
    own = boxes.gather(2, labels[:, :, None, None].expand(-1, -1, 1, 4))[:, :, 0]
    off = smooth_l1_loss(own, corrections, beta=BETA, reduction="none").sum(2) * (labels > 0)
    return (classes + off).mean(1)


@torch.no_grad()
def read_with_heads(detector: SignDetector, heads: Heads, album: Album, factors: torch.Tensor) -> list[list[Readings]]:
    """As what each head reads the signs of ``album``: for each strength a list over seeds."""
    found: list[list[Detections]] = [[] for _ in range(len(heads))]
    for scene in album.scenes:
        proposed = proposed_regions(detector, scene, factors)
        for detections, one in zip(found, _detections(detector, heads, proposed, factors), strict=True):
            detections.append(one)
    readings = [read_signs(album.scenes, detections) for detections in found]
    return [readings[first : first + heads.seeds] for first in range(0, len(heads), heads.seeds)]


def _detections(detector: SignDetector, heads: Heads, proposed: Proposed, factors: torch.Tensor) -> list[Detections]:
    """What each head finds in one photograph."""
    pooled = pad_sequence(list(proposed.pooled), batch_first=True)
    scaled = pooled * _per_feature(factors, pooled.shape[2])[:, None]
    logits, boxes = _parted(heads(scaled.repeat_interleave(heads.seeds, 0)))
    owned = [each for each in proposed.boxes for _ in range(heads.seeds)]
    present = [slice(0, len(each)) for each in owned]
    outputs = detector.roi_heads.postprocess_detections(
        torch.cat([each[part] for each, part in zip(logits, present, strict=True)]),
        torch.cat([each[part].flatten(1) for each, part in zip(boxes, present, strict=True)]),
        owned,
        [proposed.size] * len(owned),
    )
    return [
        Detections(boxes=found, labels=labels - 1, scores=scores)
        for found, scores, labels in zip(*outputs, strict=True)
    ]


def _parted(outputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits ``(M, N, labels)`` and corrections ``(M, N, labels, 4)``."""
    labels = outputs.shape[2] // 5
    return outputs[..., :labels], outputs[..., labels:].unflatten(2, (labels, 4))


def _per_feature(factors: torch.Tensor, features: int) -> torch.Tensor:
    """Factors of channels, float ``(K, C)``, as factors of pooled features, channel by channel."""
    return factors.repeat_interleave(features // factors.shape[1], 1)
