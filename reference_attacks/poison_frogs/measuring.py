"""What one victim of the end-to-end attack does, as JSON values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..data import ImageSet
from ..networks import SmallAlexNet
from ..subsets import evenly_spread
from ..training import accuracy, as_input
from .poison_sets import PoisonSet
from .projection import project
from .trials import Trial

PROJECTED = 100


@dataclass(frozen=True, kw_only=True)
class Images:
    """What victims are trained and measured on.

    ``training``: the clean training images of all victims. ``test``: all test images. ``evaluated``: of how many of
    these, at most, the clean accuracy is.
    """

    training: ImageSet
    test: ImageSet
    evaluated: int


@dataclass(frozen=True, kw_only=True)
class Before:
    """What victims are compared with.

    ``clean``: the network that they start from. ``control``: trained like them, without poisons. ``control_layers``:
    float ``(epochs, classes, 193)``, its last layer after each epoch, weights and bias.
    """

    clean: SmallAlexNet
    control: SmallAlexNet
    control_layers: torch.Tensor


def measure_victim(
    trial: Trial, target: int, poisons: PoisonSet, network: SmallAlexNet, before: Before, images: Images
) -> dict[str, Any]:
    """One victim's record, all but the rotation of its boundary.

    ``target``: its index among the test images. "logits": of the target, by the clean network, the control and the
    victim. "predicted": the target's class by the victim; "success": whether it is the base class, no other will do
    (§4.2.1). "clean_accuracy": on test images that are neither the target nor a base. "poison_accuracy": the share of
    poisons that the victim classifies as their label says. "projection": see ``projection.project``.
    """
    seen = as_input(images.test.images[target : target + 1])
    with torch.no_grad():
        logits = {
            name: one(seen)[0].tolist()
            for name, one in (("clean", before.clean), ("control", before.control), ("victim", network))
        }
        predicted = int(torch.tensor(logits["victim"]).argmax())
    changes = (poisons.images.float() - images.test.images[poisons.bases].float()).flatten(1).square().mean(1).sqrt()
    return {
        "target": target,
        "logits": logits,
        "predicted": predicted,
        "success": predicted == trial.base_class,
        "clean_accuracy": clean_accuracy(network, images, [target, *poisons.bases.tolist()]),
        "poison_accuracy": accuracy(network, _labelled(poisons.images, trial.base_class)),
        "crafting": {
            "distance_before": poisons.distances[:, 0].median().item(),
            "distance": poisons.distances[:, 1].median().item(),
            "iterations": int(poisons.iterations.median()),
            "change_rms_of_255": changes.median().item(),
        },
        "projection": _projections(trial, target, poisons, network, before, images),
    }


def _projections(
    trial: Trial, target: int, poisons: PoisonSet, network: SmallAlexNet, before: Before, images: Images
) -> dict[str, Any]:
    clean, test = images.training, images.test
    groups = {
        "target class": clean.of_class(trial.target_class).images[:PROJECTED],
        "base class": clean.of_class(trial.base_class).images[:PROJECTED],
        "target": test.images[target : target + 1],
        "poisons": poisons.images,
        "bases": test.images[poisons.bases],
    }
    return {
        name: project(one, groups, trial.target_class, trial.base_class)
        for name, one in (("clean", before.clean), ("victim", network))
    }


def clean_accuracy(network: SmallAlexNet, images: Images, without: Sequence[int] = ()) -> float:
    """The share of correctly classified test images, of ``images.evaluated`` but for those at ``without``."""
    return accuracy(network, images.test.take(evenly_spread(len(images.test), images.evaluated, without)))


def _labelled(images: torch.Tensor, label: int) -> ImageSet:
    return ImageSet(images=images, labels=torch.full((len(images),), label))
