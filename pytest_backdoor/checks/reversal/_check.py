"""Reverse triggers on one classifier: every family, every target class, in one search."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from ...errors import NotAssessableError
from ...models import Samples
from ...settings import DEFAULT_FAMILIES
from .._threads import single_threaded, usable_cores
from ._families import Blend, Patch, make_family
from ._images import ReversalImages, from_prototypes, from_samples, stand_ins
from ._nominate import targets_to_search
from ._score import FamilyScore, family_score
from ._search import Forward, Searched, no_guide, search
from ._smallest import SmallestTrigger, smallest_trigger

if TYPE_CHECKING:
    import numpy as np

    from ...calibration import ClassStatistics
    from ...models import Classifier

SCALE_IMAGES = 64
LEAST_RELATIVE_SCALE = 0.1
LOCALISED = ("patch", "pixels")


@dataclass(frozen=True, kw_only=True)
class Reversal:
    """What was found on one model.

    ``found``: by the name of each family, in the order of the search. ``images``: what it was sought on. ``forward``:
    the model as it was searched, images in [0, 1] to logits of unit scale.
    """

    found: Mapping[str, Searched]
    images: ReversalImages
    forward: Forward

    def scores(self, statistics: Mapping[str, ClassStatistics] | None = None) -> dict[str, FamilyScore]:
        """The score of each family, by class ``statistics`` of clean models where those of its name are given.

        Raises NotAssessableError if they are of another search than this.
        """
        return {
            name: family_score(searched.margins.numpy(force=True), self._fitting(name, statistics))
            for name, searched in self.found.items()
        }

    def _fitting(self, name: str, statistics: Mapping[str, ClassStatistics] | None) -> ClassStatistics | None:
        known = None if statistics is None else statistics.get(name)
        if known is not None and known.mean.shape != tuple(self.found[name].margins.shape):
            raise NotAssessableError(
                f"The detector pack's class statistics of the trigger family {name} are of another search.",
                remedy="Calibrate the pack again: python -m reference_attacks litmus calibrate.",
            )
        return known

    @property
    def score(self) -> float:
        """The highest contrast of any family, without statistics of clean models; higher is more suspicious."""
        return max(score.value for score in self.scores().values())

    def target_of(self, name: str, score: FamilyScore) -> int:
        """The class that the best trigger of a family turns images into, -1 (``AGNOSTIC``) for none in particular."""
        return int(self.found[name].targets[score.arm])

    def smallest(self, name: str, score: FamilyScore) -> SmallestTrigger:
        """The best trigger of the family ``name``, shrunk as far as it still works where it lies in one place."""
        searched = self.found[name]
        parameters = searched.parameters[score.slot, score.arm]
        mask = searched.family.mask(parameters, score.slot).to(parameters.device)
        grey = torch.full((1, *self.images.images.shape[1:]), 0.5, device=parameters.device)
        pattern = searched.family.apply(grey, parameters[None], score.slot)[0, 0].clamp(0, 1)
        target = self.target_of(name, score)
        if name in LOCALISED:
            return smallest_trigger(self.forward, self.images, target, mask, pattern)
        return SmallestTrigger(
            target=target,
            mask=mask,
            pattern=pattern,
            size=float(mask.sum()),
            success=float(searched.success[score.slot, score.arm]),
        )

    def triggered(self, name: str, score: FamilyScore, images: torch.Tensor) -> torch.Tensor:
        """``images``, float ``(N, C, H, W)`` in [0, 1], each with the best trigger of the family ``name``."""
        searched = self.found[name]
        with torch.no_grad():
            return searched.family.apply(images, searched.parameters[score.slot, score.arm][None], score.slot)[0]


def reverse(
    classifier: Classifier,
    samples: Samples | None,
    *,
    seed: int,
    device: str = "cpu",
    families: Sequence[str] = DEFAULT_FAMILIES,
    prototypes: np.ndarray[Any, Any] | None = None,
) -> Reversal:
    """Seek triggers of ``families`` for every class on ``samples``.

    Where there are none, on variants of ``prototypes``, the images of a detector pack, float32 ``(P, C, H, W)`` in
    [0, 1]; where there is no pack either, on stand-ins made from the model alone.

    The same ``seed`` gives the same result on the same machine. Raises NotAssessableError if the model has no
    gradients, accepts too few images, or if the search saw nothing.

    The logits are divided by their root mean square, on random images while stand-ins are made and then on the images
    of the search. A network that was trained longer has larger ones; undivided, its losses would be steeper and its
    margins wider than those of the reference networks although it is as clean.
    """
    with single_threaded():
        return _reverse(classifier, samples, seed, device, families, prototypes)


def _reverse(
    classifier: Classifier,
    samples: Samples | None,
    seed: int,
    device: str,
    families: Sequence[str],
    prototypes: np.ndarray[Any, Any] | None,
) -> Reversal:
    generator = _seeded(seed)
    raw_forward = classifier.differentiable(device)
    noise_scale = logit_scale(raw_forward, _random_images(classifier, device))
    if samples is not None:
        images = _moved(from_samples(classifier, samples, generator), device)
    elif prototypes is not None:
        images = from_prototypes(raw_forward, prototypes, classifier.classes, generator, device)
    else:
        calmed = _scaled(raw_forward, noise_scale)
        images = stand_ins(calmed, classifier.input_shape, classifier.classes, generator, device)
    scale = logit_scale(raw_forward, images.images)
    _require_sight(scale / noise_scale)
    forward = _scaled(raw_forward, scale)
    patch = Patch(input_shape=classifier.input_shape)
    targets = targets_to_search(forward, images, classifier.classes, patch, _seeded(seed))
    workers = usable_cores() if classifier.thread_safe and device == "cpu" else 1
    found = {
        # Each from the seed itself, so that what a family finds does not depend on which others are searched.
        name: search(
            forward,
            images,
            targets,
            make_family(name, classifier.input_shape),
            _seeded(seed),
            workers=workers,
        )
        for name in families
    }
    _require_movement(found)
    if not any(bool(searched.success.any()) for searched in found.values()):
        _require_ability(search(forward, images, targets, _whole(classifier.input_shape), _seeded(seed)))
    return Reversal(found=found, images=images, forward=forward)


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _scaled(forward: Forward, scale: float) -> Forward:
    def scaled(images: torch.Tensor) -> torch.Tensor:
        return forward(images) / scale

    return scaled


def _moved(images: ReversalImages, device: str) -> ReversalImages:
    return replace(
        images,
        images=images.images.to(device),
        labels=images.labels.to(device),
        held_out=images.held_out.to(device),
        held_out_labels=images.held_out_labels.to(device),
    )


def logit_scale(forward: Forward, images: torch.Tensor) -> float:
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


def _require_sight(relative_scale: float) -> None:
    """Raise NotAssessableError if the model answers random noise far more strongly than the images of the search."""
    if relative_scale < LEAST_RELATIVE_SCALE:
        raise NotAssessableError(
            f"Triggers cannot be sought: the model answers random noise {1 / relative_scale:.0f} times as strongly as "
            "images. Check its preprocessing; if that is right, the model may be built to blind this check."
        )


def _require_movement(found: Mapping[str, Searched]) -> None:
    """Raise NotAssessableError if there was no gradient to follow: a search that failed, not one that found nothing."""
    if not any(searched.moved for searched in found.values()):
        raise no_guide("are all zero")


def _whole(input_shape: tuple[int, int, int]) -> Blend:
    """Images replaced altogether, which any model can be moved by."""
    return Blend(input_shape=input_shape, alphas=(1.0,), steps=24)


def _require_ability(whole: Searched) -> None:
    """Raise NotAssessableError if not even whole new images are taken for more than one class.

    Asked where no trigger changed a prediction, as is right for robust models, but also for ones whose gradients
    mislead. One class is what the start of the search is taken for.
    """
    if int((whole.success[:, :-1] > 0).any(0).sum()) < 2:
        raise NotAssessableError(
            "No trigger changed the prediction of a single image, and images made for each class are not taken for it: "
            "the search failed. Check input_range, mean, std and layout; if they are right, the model may be built to "
            "blind this check."
        )
