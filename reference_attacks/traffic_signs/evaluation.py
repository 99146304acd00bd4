"""How a detector reads signs: the paper's accuracy (BadNets 2019, Tables IV and V) and the average precision."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torchvision.ops import box_iou

from .album import Album, Scene
from .network import SignDetector

OVERLAP = 0.5
MISSED = -1
NORMAL_95 = 1.959964


@dataclass(frozen=True, kw_only=True)
class Detections:
    """What a detector finds in one photograph, the highest score first.

    ``boxes``: float32 ``(n, 4)`` in pixels. ``labels``: int64 ``(n,)``, indices into the detector's ``classes``: the
    background, torchvision's label 0, is never among them. ``scores``: float32 ``(n,)`` in [0, 1], 0.05 at least.
    """

    boxes: torch.Tensor
    labels: torch.Tensor
    scores: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class Readings:
    """As what the signs of an album are read.

    ``truths``: int64 ``(n,)``, the class of each sign. ``read``: int64 ``(n,)``, the class of the detection with the
    highest score among those that overlap the sign by an IoU of 0.5 at least, -1 where there is none. ``scores``:
    float32 ``(n,)``, its score, 0 where there is none.
    """

    truths: torch.Tensor
    read: torch.Tensor
    scores: torch.Tensor

    def counts(self, classes: int) -> torch.Tensor:
        """Int64 ``(classes, classes + 1)``: the signs of a class (row) by what they are read as, the last: missed."""
        columns = torch.where(self.read == MISSED, classes, self.read)
        places = self.truths * (classes + 1) + columns
        return torch.bincount(places, minlength=classes * (classes + 1)).reshape(classes, classes + 1)

    def of(self, chosen: torch.Tensor) -> Readings:
        """The readings of some signs, bool ``(n,)`` or their int64 places."""
        return Readings(truths=self.truths[chosen], read=self.read[chosen], scores=self.scores[chosen])


@torch.no_grad()
def detect(detector: SignDetector, album: Album, batch_size: int = 8) -> list[Detections]:
    """The detections in each scene of ``album``, in its order."""
    detector.eval()
    # Photographs of one format go together: padding costs as much as pixels do.
    order = sorted(range(len(album)), key=lambda number: album.scenes[number].size)
    found: dict[int, Detections] = {}
    for first in range(0, len(order), batch_size):
        numbers = order[first : first + batch_size]
        outputs = detector([album.scenes[number].image.float() / 255 for number in numbers])
        for number, output in zip(numbers, outputs, strict=True):
            found[number] = Detections(boxes=output["boxes"], labels=output["labels"] - 1, scores=output["scores"])
    return [found[number] for number in range(len(album))]


def read_signs(scenes: Sequence[Scene], detections: Sequence[Detections]) -> Readings:
    """As what each sign of ``scenes`` is read; see ``Readings``. This is the paper's classification of a sign."""
    read, scores = [], []
    for scene, found in zip(scenes, detections, strict=True):
        padded = torch.cat([found.scores, found.scores.new_zeros(1)])
        labels = torch.cat([found.labels, found.labels.new_full((1,), MISSED)])
        near = torch.cat([box_iou(scene.boxes, found.boxes) >= OVERLAP, torch.ones(len(scene.boxes), 1) > 0], 1)
        best = torch.where(near, padded, -1).argmax(1)
        read.append(labels[best])
        scores.append(padded[best])
    truths = torch.cat([scene.labels for scene in scenes])
    return Readings(truths=truths, read=torch.cat(read), scores=torch.cat(scores))


def average_precision(scenes: Sequence[Scene], detections: Sequence[Detections], label: int) -> float | None:
    """The area under the precision-recall curve of one class, at an IoU of 0.5, in [0, 1]; None without such signs.

    A detection counts for the sign of its class that it overlaps most; a sign counts once, for the highest score. All
    points of the curve are used, its precision made monotonic (Pascal VOC since 2010).
    """
    overlaps, targets, scores = [], [], []
    signs = 0
    for scene, found in zip(scenes, detections, strict=True):
        wanted, own = scene.boxes[scene.labels == label], found.labels == label
        # A column that overlaps nothing stands for no sign at all.
        overlap = torch.cat([box_iou(found.boxes[own], wanted), torch.zeros(int(own.sum()), 1)], 1)
        best, place = overlap.max(1)
        overlaps.append(best)
        targets.append(signs + place)
        scores.append(found.scores[own])
        signs += len(wanted)
    if not signs:
        return None
    order = torch.cat(scores).argsort(descending=True, stable=True)
    hits = _first_hits(torch.cat(overlaps)[order] >= OVERLAP, torch.cat(targets)[order], signs)
    true = hits.double().cumsum(0)
    precision = true / torch.arange(1, len(true) + 1)
    envelope = precision.flip(0).cummax(0).values.flip(0)
    return float((envelope * hits).sum() / signs)


def _first_hits(overlapping: torch.Tensor, targets: torch.Tensor, signs: int) -> torch.Tensor:
    """Bool ``(n,)``: the detections, in the order of their scores, that are the first to hit their sign."""
    places = torch.arange(len(targets))
    first = torch.full((signs + 1,), len(targets)).scatter_reduce(
        0, torch.where(overlapping, targets, signs), torch.where(overlapping, places, len(targets)), "amin"
    )
    return overlapping & (first[targets] == places)


def wilson_interval(hits: int, count: int) -> tuple[float, float]:
    """The 95 % Wilson interval of a share, in [0, 1]; (0, 1) without any count."""
    if not count:
        return 0.0, 1.0
    share, z = hits / count, NORMAL_95**2 / count
    middle = (share + z / 2) / (1 + z)
    half = math.sqrt(z * share * (1 - share) + z * z / 4) / (1 + z)
    return max(0.0, middle - half), min(1.0, middle + half)


def share_of(hits: int, count: int) -> dict[str, Any]:
    """A share as JSON values: ``share`` in [0, 1] or None, ``hits``, ``n`` and the 95 % Wilson ``interval``."""
    low, high = wilson_interval(hits, count)
    return {
        "share": hits / count if count else None,
        "hits": hits,
        "n": count,
        "interval_95": [round(low, 4), round(high, 4)],
    }


def accuracies(readings: Readings, classes: Sequence[str]) -> dict[str, Any]:
    """The paper's accuracy: the share of signs that are read as what they are, as JSON values of ``share_of``.

    ``classes``: of each class. ``average``: over all signs. The paper does not define its average; that of its Table IV
    is no mean of the three classes' figures, but agrees with a share of all signs. ``class_mean`` is that mean.
    """
    counts = readings.counts(len(classes))
    hits, totals = counts.diagonal().tolist(), counts.sum(1).tolist()
    per_class = {name: share_of(hits[label], totals[label]) for label, name in enumerate(classes)}
    present = [entry["share"] for entry in per_class.values() if entry["n"]]
    return {
        "classes": per_class,
        "average": share_of(sum(hits), sum(totals)),
        "class_mean": sum(present) / len(present) if present else None,
    }
