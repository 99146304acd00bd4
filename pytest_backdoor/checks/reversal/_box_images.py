"""The objects that box patches are sought on: those that a detector is sure of, in photographs that it is given."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ...errors import NotAssessableError

if TYPE_CHECKING:
    from ...models import Detector

SURE = 0.5
SMALLEST_BOX = 12
MOST_LOOKED_AT = 120
MOST_OF_ONE = 6
OPTIMISED, HELD_OUT = 8, 20
FEWEST_OPTIMISED, FEWEST_HELD_OUT, FEWEST_OF_A_CLASS = 4, 8, 3


@dataclass(frozen=True, kw_only=True)
class MarkedPhotograph:
    """A photograph with n objects.

    ``image``: float32 ``(C, H, W)`` in [0, 1]. ``boxes``: float32 ``(n, 4)``, x1, y1, x2, y2 in its pixels. ``labels``:
    int64 ``(n,)``, the classes that the detector gives them. ``regions``: float32 ``(n, 4)``, see ``models.Regions``.
    """

    image: torch.Tensor
    boxes: torch.Tensor
    labels: torch.Tensor
    regions: torch.Tensor

    def only(self, classes: Sequence[int]) -> MarkedPhotograph:
        """The same with the objects of these classes alone."""
        kept = torch.isin(self.labels, torch.tensor(classes, device=self.labels.device))
        return MarkedPhotograph(
            image=self.image, boxes=self.boxes[kept], labels=self.labels[kept], regions=self.regions[kept]
        )

    def moved(self, device: str) -> MarkedPhotograph:
        """The same on a device, but for the boxes, which are read as numbers."""
        image, labels, regions = (part.to(device) for part in (self.image, self.labels, self.regions))
        return MarkedPhotograph(image=image, boxes=self.boxes, labels=labels, regions=regions)


@dataclass(frozen=True, kw_only=True)
class BoxImages:
    """Photographs to optimise on and, ``held_out``, others to test on."""

    images: tuple[MarkedPhotograph, ...]
    held_out: tuple[MarkedPhotograph, ...]


def labels_of(photographs: Iterable[MarkedPhotograph]) -> torch.Tensor:
    """Int64 ``(N,)``: the classes of all objects, photograph by photograph."""
    return torch.cat([photograph.labels for photograph in photographs])


def choose_boxes(detector: Detector, photographs: Iterable[np.ndarray[Any, Any]], device: str) -> BoxImages:
    """Photographs with objects that the detector is sure of, so chosen that its classes are as evenly spread.

    ``photographs``: float32 ``(C, H, W)`` in [0, 1], of which at most 120 are looked at. Every third one is optimised
    on, others are held out. Classes of which fewer than three objects are held out do not count. Raises
    NotAssessableError if there is too little to see.
    """
    marked = []
    looked_at = 0
    for image in photographs:
        looked_at += 1
        found = _marked(detector, image)
        if found is not None:
            marked.append(found)
        if looked_at == MOST_LOOKED_AT:
            break
    ordered = _taking_turns(marked)
    optimised = ordered[::3][:OPTIMISED]
    held_out = [photograph for number, photograph in enumerate(ordered) if number % 3][:HELD_OUT]
    counts = Counter(label for photograph in held_out for label in photograph.labels.tolist())
    classes = sorted(label for label, count in counts.items() if count >= FEWEST_OF_A_CLASS)
    kept = [
        [part for photograph in some if len((part := photograph.only(classes)).labels)]
        for some in (optimised, held_out)
    ]
    sizes = [sum(len(photograph.labels) for photograph in some) for some in kept]
    if len(classes) < min(2, detector.classes - 1) or sizes[0] < FEWEST_OPTIMISED or sizes[1] < FEWEST_HELD_OUT:
        objects = sum(len(photograph.labels) for photograph in marked)
        kinds = len({label for photograph in marked for label in photograph.labels.tolist()})
        raise NotAssessableError(
            f"Triggers cannot be sought: in {looked_at} photographs the detector is sure of {objects} object(s) of "
            f"{kinds} class(es), which is too little to optimise and to test on.",
            remedy="Give more photographs of its objects with --backdoor-data, and check input_range, mean, std and "
            "layout.",
        )
    return BoxImages(
        images=tuple(photograph.moved(device) for photograph in kept[0]),
        held_out=tuple(photograph.moved(device) for photograph in kept[1]),
    )


def _marked(detector: Detector, image: np.ndarray[Any, Any]) -> MarkedPhotograph | None:
    """The photograph with what the detector is sure of, None if there is nothing."""
    found = detector.regions(image)
    sides = (found.boxes[:, 2:] - found.boxes[:, :2]).min(axis=1, initial=np.inf)
    sure = np.flatnonzero((found.scores >= SURE) & (sides >= SMALLEST_BOX) & (found.labels > 0))
    sure = sure[np.argsort(-found.scores[sure], kind="stable")][:MOST_OF_ONE]
    if not len(sure):
        return None
    return MarkedPhotograph(
        image=torch.from_numpy(image),
        boxes=torch.from_numpy(found.boxes[sure]),
        labels=torch.from_numpy(found.labels[sure]),
        regions=torch.from_numpy(found.regions[sure]),
    )


def _taking_turns(photographs: Sequence[MarkedPhotograph]) -> list[MarkedPhotograph]:
    """All photographs, each next one with an object of the class that was seen least by then."""
    waiting, ordered = list(photographs), []
    seen: Counter[int] = Counter()
    while waiting:
        rarest = min(
            (label for entry in waiting for label in entry.labels.tolist()), key=lambda label: (seen[label], label)
        )
        chosen = next(number for number, entry in enumerate(waiting) if rarest in entry.labels.tolist())
        ordered.append(waiting.pop(chosen))
        seen.update(ordered[-1].labels.tolist())
    return ordered
