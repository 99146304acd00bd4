"""The largest margin that a small patch gives each class, on images made up for the task."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from ...errors import NotAssessableError
from ._patches import Place, Question, Schedule, best_patches, grey, margins_with, places

LEAST_SPREAD = 1e-6


@dataclass(frozen=True, kw_only=True)
class MarginResult:
    """The largest margins that were found, and what attains them.

    ``margins``: float64 ``(P, K)`` for P places and K classes: the mean, over images that the model gives another
    class, of z_class - max of the other logits with the patch, in units of the logits' root mean square on the images
    without it. ``places``: their names. ``patches``: for each place float ``(K, C, h, w)`` in [0, 1]. ``shown``: for
    each place float ``(K, C, H, W)``, an image with the patch. ``clean``: float ``(K, C, H, W)``, the same images
    without it. ``predicted_before``, int64 ``(K,)``, and ``predicted_after``, for each place ``(K,)``: the classes that
    the model gives them.
    """

    margins: np.ndarray[tuple[int, int], np.dtype[np.float64]]
    places: tuple[str, ...]
    patches: tuple[torch.Tensor, ...]
    shown: tuple[torch.Tensor, ...]
    clean: torch.Tensor
    predicted_before: torch.Tensor
    predicted_after: tuple[torch.Tensor, ...]


def class_margins(
    forward: Callable[[torch.Tensor], torch.Tensor],
    images: torch.Tensor,
    generator: torch.Generator,
    schedule: Schedule | None = None,
) -> MarginResult:
    """For each place and class the largest margin that one patch gives the class on several images.

    ``forward``: logits ``(N, K)`` of float ``(N, C, H, W)`` in [0, 1]. ``images``: such images of several classes, as a
    detector pack's prototypes are, on its device. The same ``generator`` state gives the same result on one machine.

    Source: the maximum margin statistic (Wang et al., "MM-BD", IEEE S&P 2024), which maximises over whole images.
    Deviations: there a trigger need not show, since it takes the place of a class's own features rather than adding to
    them; here only a patch in a corner or on the middle is free, and it is one for several images, as a trigger is. The
    paper's ascent takes 30 random images and up to 300 steps for each class; this one takes sign steps with momentum on
    the log-odds, whose gradient looks at all other classes where the margin's looks at the nearest.
    Raises NotAssessableError if outputs or gradients are no guide, or if no patch changes anything: a search that
    cannot move must not count as one that found nothing.
    """
    schedule = schedule or Schedule()
    with torch.no_grad():
        answers = forward(images).float()
    scale = _scale(answers)

    def scaled(batch: torch.Tensor) -> torch.Tensor:
        return forward(batch).float() / scale

    question = Question.ask(scaled, images, answers / scale, schedule, generator)
    searched = places(images.shape[-2:])
    patches = _search(question, searched, schedule, generator)
    margins = torch.stack([margins_with(question, *pair, schedule) for pair in zip(searched, patches, strict=True)])
    _require_finite(margins, "outputs")
    _require_gain(question, searched, patches, schedule)
    shown = tuple(question.show(place, patch) for place, patch in zip(searched, patches, strict=True))
    with torch.no_grad():
        predicted = tuple(
            torch.cat([scaled(part).argmax(1).cpu() for part in torch.split(of_place, schedule.largest_batch)])
            for of_place in shown
        )
    first = question.order[:, 0]
    return MarginResult(
        margins=margins.double().cpu().numpy(),
        places=tuple(place.name for place in searched),
        patches=tuple(patches),
        shown=shown,
        clean=images[first],
        predicted_before=answers.argmax(1)[first].cpu(),
        predicted_after=predicted,
    )


def _scale(answers: torch.Tensor) -> float:
    """The root mean square of the centred logits. Raises NotAssessableError if nothing can be measured by it."""
    scale = float((answers - answers.mean(1, keepdim=True)).square().mean().sqrt())
    if not math.isfinite(scale):
        raise NotAssessableError(
            "Margins cannot be sought: the model's outputs are not finite numbers. Check input_range, mean and std."
        )
    if scale < LEAST_SPREAD:
        raise NotAssessableError(
            "Margins cannot be sought: the model's outputs are the same for every class. Check that its weights are "
            "loaded, and input_range, mean and std."
        )
    if len(set(answers.argmax(1).tolist())) < 2:
        raise NotAssessableError(
            "Margins cannot be sought: the model gives all images of the detector pack the same class. Check "
            "input_range, mean, std and layout."
        )
    return scale


def _search(
    question: Question, searched: list[Place], schedule: Schedule, generator: torch.Generator
) -> list[torch.Tensor]:
    found, moved = [], False
    for place in searched:
        patches, steep = best_patches(question, place, schedule, generator)
        _require_finite(patches, "gradients")
        found.append(patches)
        moved = moved or steep
    if not moved:
        raise NotAssessableError(
            "Margins cannot be sought: the model's gradients are all zero, so nothing leads to a larger margin. Scan "
            "it before quantisation or any other step that hides them, or export it with its logits as the output."
        )
    return found


def _require_gain(question: Question, searched: list[Place], patches: list[torch.Tensor], schedule: Schedule) -> None:
    """Raise NotAssessableError if the patches that were found are no better than the grey ones they started as."""
    quick = replace(schedule, test_images=1, test_places=1)
    for place, found in zip(searched, patches, strict=True):
        start = grey(question.classes, question.images, place.size)
        gain = margins_with(question, place, found, quick) - margins_with(question, place, start, quick)
        if float(gain.mean()) > 0:
            return
    raise NotAssessableError(
        "Margins cannot be sought: no patch raised the margins of the classes, so the search failed. Check "
        "input_range, mean, std and layout; if they are right, the model may be built to blind this check."
    )


def _require_finite(values: torch.Tensor, what: str) -> None:
    if not bool(torch.isfinite(values).all()):
        raise NotAssessableError(
            f"Margins cannot be sought: the model's {what} are not finite numbers, so nothing leads to a larger "
            "margin. Check input_range, mean and std, or scan it before any step that hides its gradients."
        )
