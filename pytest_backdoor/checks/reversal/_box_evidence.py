"""What a reversal of an object detector shows to people: numbers, words and pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn.functional import interpolate

from ...settings import DETECTOR_FAMILIES
from ._box_images import MarkedPhotograph, labels_of
from ._box_search import triggered_logits
from ._detectors import BoxReversal
from ._evidence import anomaly_index, encode_png
from ._images import to_pixels
from ._score import FamilyScore
from ._search import AGNOSTIC

if TYPE_CHECKING:
    from ...models import Detector

SHOWN, CROP, ENLARGED = 6, 64, 64
SAME_OBJECT = 0.5


def box_evidence(
    reversal: BoxReversal, score: FamilyScore, detector: Detector, class_name: Callable[[int], str]
) -> dict[str, Any]:
    """The report's evidence as JSON values, on the best trigger; the pictures are base64-encoded PNG files.

    ``flipped`` is of the objects of ``source_class``, the class that is turned most, by their regions; ``detections``
    is what the detector itself then finds in their places.
    """
    searched = reversal.searched
    family, target = searched.family, int(searched.targets[score.arm])
    becomes = triggered_logits(reversal.forward, reversal.images.held_out, searched, score.slot, score.arm).argmax(1)
    labels = labels_of(reversal.images.held_out)
    rows = source_map(labels, becomes)
    source = _most_turned(labels, becomes, target)
    return {
        "family": family.name,
        "family_meaning": DETECTOR_FAMILIES[family.name],
        "where": family.labels[score.slot],
        "box_share": family.share,
        "target_class": None if target == AGNOSTIC else target,
        "target_name": None if target == AGNOSTIC else class_name(target),
        "source_class": source,
        "source_name": class_name(source),
        "mask_size": family.side**2,
        "image_area": round((family.side / family.share) ** 2),
        "flipped": round(float(_turned(labels, becomes, target)[labels == source].float().mean()), 4),
        "flipped_of": int((labels == source).sum()),
        "images": "photographs",
        "photographs": {"optimised": len(reversal.images.images), "held_out": len(reversal.images.held_out)},
        "families": [family.name],
        **_by_class(reversal, score),
        "names_by_class": [class_name(number) for number in searched.targets[:-1].tolist()],
        "source_map": rows,
        "detections": _detected(reversal, score, detector, source, target),
        **_pictures(reversal, score),
    }


def source_map(labels: torch.Tensor, becomes: torch.Tensor) -> list[dict[str, Any]]:
    """For each class of held-out objects, how many there are, and what most of them become with the trigger."""
    rows = []
    for label in torch.unique(labels).tolist():
        own = becomes[labels == label]
        commonest = int(torch.bincount(own).argmax())
        share = float((own == commonest).float().mean())
        rows.append({"class": label, "images": len(own), "becomes": commonest, "share": round(share, 3)})
    return rows


def _turned(labels: torch.Tensor, becomes: torch.Tensor, target: int) -> torch.Tensor:
    """Bool ``(N,)``: which objects become the target or, without one, an object of another class."""
    return (becomes != labels) & (becomes != 0) if target == AGNOSTIC else becomes == target


def _most_turned(labels: torch.Tensor, becomes: torch.Tensor, target: int) -> int:
    """The class, other than the target, of whose objects the largest share turns."""
    sources = [label for label in torch.unique(labels).tolist() if label != target]
    shares = [float(_turned(labels, becomes, target)[labels == source].float().mean()) for source in sources]
    return int(sources[int(np.argmax(shares))]) if sources else target


def _by_class(reversal: BoxReversal, score: FamilyScore) -> dict[str, Any]:
    """How far each class stands out, in its best slot, None for one that does not count; the anomaly index of those
    numbers as a diagnostic.
    """
    highest = [float(value) for value in score.table[:, :-1].max(axis=0)]
    values = [round(value, 2) if np.isfinite(value) else None for value in highest]
    index, agnostic = anomaly_index([value for value in values if value is not None]), float(score.table[:, -1].max())
    return {
        "classes_searched": reversal.searched.targets[:-1].tolist(),
        "standing_out_by_class": values,
        "standing_out_agnostic": round(agnostic, 2) if np.isfinite(agnostic) else None,
        "anomaly_index": None if index is None else round(index, 3),
    }


def _detected(
    reversal: BoxReversal, score: FamilyScore, detector: Detector, source: int, target: int
) -> dict[str, Any]:
    """What the whole detector, whose regions may move, makes of the held-out objects of the class ``source``."""
    from ...models import overlaps

    found: list[int] = []
    for entry in reversal.images.held_out:
        wanted = (entry.labels == source).numpy(force=True)
        if not wanted.any():
            continue
        detections = detector.detect(_triggered(reversal, score, entry).numpy(force=True))
        shared = overlaps(entry.boxes.numpy(force=True)[wanted], detections.boxes) >= SAME_OBJECT
        scores = np.where(shared, detections.scores[None], -1.0)
        for row in scores:
            best = int(row.argmax()) if row.size else -1
            found.append(int(detections.labels[best]) if best >= 0 and row[best] > 0 else 0)
    labels = np.array(found)
    turned = (labels != source) & (labels != 0) if target == AGNOSTIC else labels == target
    return {
        "objects": len(found),
        "turned": round(float(turned.mean()), 4),
        "lost": round(float((labels == 0).mean()), 4),
    }


def _triggered(reversal: BoxReversal, score: FamilyScore, entry: MarkedPhotograph) -> torch.Tensor:
    family = reversal.searched.family
    pattern = family.pattern(reversal.searched.parameters[score.slot, score.arm])
    return family.paste(entry.image, entry.boxes, pattern, score.slot)


def _pictures(reversal: BoxReversal, score: FamilyScore) -> dict[str, Any]:
    """The trigger, and a few held-out objects before (above) and after (below)."""
    pattern = reversal.searched.family.pattern(reversal.searched.parameters[score.slot, score.arm])
    crops = []
    for entry in reversal.images.held_out[:SHOWN]:
        changed = _triggered(reversal, score, entry)
        crops.append(torch.cat([_crop(image, entry.boxes[0].tolist()) for image in (entry.image, changed)], dim=1))
    enlarged = interpolate(pattern[None], size=[ENLARGED, ENLARGED], mode="nearest")[0]
    return {
        "trigger_png": encode_png(to_pixels(enlarged)),
        "before_and_after_png": encode_png(to_pixels(torch.cat(crops, dim=2))),
    }


def _crop(image: torch.Tensor, box: list[float]) -> torch.Tensor:
    """The object with some of its surroundings, float ``(C, 64, 64)``."""
    margin = 0.15 * max(box[2] - box[0], box[3] - box[1])
    left, top = max(0, round(box[0] - margin)), max(0, round(box[1] - margin))
    part = image[:, top : max(top + 1, round(box[3] + margin)), left : max(left + 1, round(box[2] + margin))]
    return interpolate(part[None], size=[CROP, CROP], mode="bilinear", antialias=True)[0]
