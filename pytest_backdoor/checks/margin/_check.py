"""Measure the margins of one classifier and put the result into numbers and a picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from .._threads import single_threaded
from ..reversal._evidence import LARGEST_PICTURE, encode_png
from ..reversal._images import shrunk, to_pixels
from ._maximise import MarginResult, class_margins
from ._patches import Schedule
from ._score import margin_deviations

if TYPE_CHECKING:
    import numpy as np

    from ...calibration import ClassStatistics
    from ...models import Classifier


def measure_margins(
    classifier: Classifier,
    images: np.ndarray[Any, Any],
    *,
    seed: int,
    device: str = "cpu",
    schedule: Schedule | None = None,
) -> MarginResult:
    """The margins of ``classifier`` on ``images``, float32 ``(N, C, H, W)`` in [0, 1], such as a pack's prototypes.

    The same ``seed`` gives the same result on the same machine. Raises NotAssessableError as ``class_margins`` does.
    """
    generator = torch.Generator().manual_seed(seed)
    shown = torch.tensor(images, device=device)
    with single_threaded():
        return class_margins(classifier.differentiable(device), shown, generator, schedule)


def evidence_of(
    result: MarginResult,
    class_name: Callable[[int], str],
    statistics: ClassStatistics | None = None,
    schedule: Schedule | None = None,
) -> dict[str, Any]:
    """The report's evidence as JSON values, on the place and class whose margin deviates most.

    ``margins_by_class`` are each class's largest ones, ``deviations_by_class`` its largest deviations, which are in the
    unit of the score; the pictures are base64-encoded PNG files.
    """
    schedule = schedule or Schedule()
    deviations = margin_deviations(result.margins, statistics)
    place, target = divmod(int(deviations.argmax()), deviations.shape[1])
    return {
        "target_class": target,
        "target_name": class_name(target),
        "place": result.places[place],
        "margin": round(float(result.margins[place, target]), 4),
        "deviation": round(float(deviations[place, target]), 4),
        "margins_by_class": [round(float(value), 4) for value in result.margins.max(axis=0)],
        "names_by_class": [class_name(number) for number in range(deviations.shape[1])],
        "deviations_by_class": [round(float(value), 4) for value in deviations.max(axis=0)],
        "patch_size": list(result.patches[place].shape[-2:]),
        "places": list(result.places),
        "steps": schedule.steps,
        "starts": 1,
        "patch_png": encode_png(to_pixels(result.patches[place][target])),
        "clean_png": encode_png(to_pixels(shrunk(result.clean[target], LARGEST_PICTURE))),
        "patched_png": encode_png(to_pixels(shrunk(result.shown[place][target], LARGEST_PICTURE))),
        "example_before": class_name(int(result.predicted_before[target])),
        "example_after": class_name(int(result.predicted_after[place][target])),
    }
