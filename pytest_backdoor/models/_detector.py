"""The interface through which checks look at an object detector."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import torch

RegionLogits: TypeAlias = "Callable[[torch.Tensor, torch.Tensor], torch.Tensor]"


@dataclass(frozen=True, kw_only=True)
class Detections:
    """What a detector finds on one image.

    ``boxes``: float32 ``(n, 4)``, x1, y1, x2, y2 in pixels of the image. ``labels``: int64 ``(n,)``, 0 is background.
    ``scores``: float32 ``(n,)``, probabilities.
    """

    boxes: np.ndarray[Any, Any]
    labels: np.ndarray[Any, Any]
    scores: np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True)
class Regions(Detections):
    """Detections with the region that each was made of.

    ``regions``: float32 ``(n, 4)``, what the detector cut out of its features, in its own coordinates. ``logits``:
    float32 ``(n, K)``, the class scores of each region before the softmax.
    """

    regions: np.ndarray[Any, Any]
    logits: np.ndarray[Any, Any]


class Detector(Protocol):
    """An object detector that looks at regions of one image.

    ``channels``: of an image. ``size``: (height, width) that an image must have, None for any. ``thread_safe``: as for
    ``Classifier``.
    """

    channels: int
    size: tuple[int, int] | None
    thread_safe: bool

    @property
    def classes(self) -> int:
        """The number K of class scores of a region, background included."""
        ...

    def detect(self, image: np.ndarray[Any, Any]) -> Detections:
        """What is found on a float32 ``(C, H, W)`` image in [0, 1]. Raises ModelError if it cannot be run."""
        ...

    def regions(self, image: np.ndarray[Any, Any]) -> Regions:
        """The same with regions. Raises ModelError, and NotAssessableError if scores and regions do not agree."""
        ...

    def differentiable(self, device: str, image: np.ndarray[Any, Any]) -> RegionLogits:
        """A function from a float ``(C, H, W)`` image in [0, 1] and regions ``(n, 4)`` to logits ``(n, K)``.

        The regions are held fixed whatever the image shows. ``image``, as for ``detect``: what the function is compared
        with the model on. Raises NotDifferentiableError if it cannot be had or does not agree.
        """
        ...
