"""What a victim makes of the targets, epoch by epoch, as JSON values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import torch
from torch import nn
from torch.func import functional_call

from ..training import as_input, predicted_classes
from .problem import Problem

# Batches of training images that a target joins, in place of all those of an epoch as in the published code.
BATCHES = 4
SHOWN = 100
EVALUATION_BATCH = 1000


@dataclass(frozen=True, kw_only=True)
class View:
    """What a victim is shown after each epoch, on one device.

    ``targets``: float ``(T, C, H, W)`` in [0, 1]. ``wanted``: int64 ``(T,)``, on the CPU. ``batches``: float
    ``(n, B, C, H, W)``, batches of its own training images. ``groups``: images by name, float ``(N, C, H, W)``, whose
    features are compared with the targets'. ``labels``: int64 ``(V,)`` of the validation images, which all victims have
    in common, on the CPU; ``judged``: bool ``(V,)``, which of them are no targets.
    """

    targets: torch.Tensor
    wanted: torch.Tensor
    batches: torch.Tensor
    groups: Mapping[str, torch.Tensor]
    labels: torch.Tensor
    judged: torch.Tensor


def make_view(
    problem: Problem,
    poisons: torch.Tensor,
    labels: torch.Tensor,
    judged: torch.Tensor,
    *,
    batch: int,
    generator: torch.Generator,
    device: str,
) -> View:
    """The view of a victim that is trained with ``poisons``, uint8 ``(P, C, H, W)``, in the place of the bases.

    ``labels`` and ``judged``: of the validation images. ``batch``: training images of a batch; ``generator`` draws
    which ones.
    """
    trained = problem.poisoned(poisons)
    drawn = torch.randint(len(trained), (BATCHES, batch), generator=generator)
    groups = {
        "poisons": poisons[:SHOWN],
        "bases": problem.bases[:SHOWN],
        "target class": problem.clean.of_class(int(problem.true_labels[0])).images[:SHOWN],
        "wanted class": problem.clean.of_class(int(problem.labels[0])).images[:SHOWN],
    }
    return View(
        targets=as_input(problem.targets).to(device),
        wanted=problem.labels,
        batches=torch.stack([as_input(trained.images[chosen]) for chosen in drawn]).to(device),
        groups={name: as_input(images).to(device) for name, images in groups.items()},
        labels=labels,
        judged=judged,
    )


@torch.no_grad()
def logits_in_batches(network: nn.Module, batches: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Float ``(n, T, classes)``: of float ``targets`` that join each of n ``batches``, normalised by its statistics.

    This is how the published code looks at targets, in training and when it measures success: batch normalisation takes
    its means and variances from the batch that the targets are part of. ``network`` is left in training mode; its
    running statistics stay as they are.
    """
    weights: dict[str, torch.Tensor] = dict(network.named_parameters())
    network.train()
    found = []
    for batch in batches:
        buffers = {name: value.clone() for name, value in network.named_buffers()}
        logits = functional_call(network, (weights, buffers), (torch.cat([batch, targets]),))
        found.append(logits[len(batch) :])
    return torch.stack(found).float()


@torch.no_grad()
def last_features(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Float ``(N, D)``: what the last layer, ``network.output``, sees of float ``images``."""
    seen: list[torch.Tensor] = []
    output = network.get_submodule("output")
    hook = output.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    try:
        network(images)
    finally:
        hook.remove()
    return seen[0].float()


class Watch:
    """Looks at one victim after each epoch."""

    def __init__(self, network: nn.Module, view: View) -> None:
        self._network = network
        self._view = view
        self._evaluation: list[torch.Tensor] = []
        self._in_batches: list[torch.Tensor] = []
        self._accuracies: list[float] = []
        self._distances: dict[str, list[float]] = {name: [] for name in view.groups}

    @torch.no_grad()
    def look(self, predicted: torch.Tensor) -> None:
        """Measure the network as it is, and leave it in training mode.

        ``predicted``: int64 ``(V,)``, on the CPU, what it takes the validation images for.
        """
        view, network = self._view, self._network
        network.eval()
        features = last_features(network, view.targets)
        self._evaluation.append(network(view.targets).float().cpu())
        for name, images in view.groups.items():
            distances = torch.cdist(features, last_features(network, images))
            self._distances[name].append(round(float(distances.mean()), 4))
        self._accuracies.append(float((predicted == view.labels)[view.judged].double().mean()))
        self._in_batches.append(logits_in_batches(network, view.batches, view.targets).cpu())

    def values(self) -> dict[str, Any]:
        """Everything by epoch, E of them, of T targets and C classes.

        "evaluation": with batch normalisation in evaluation mode, as a victim is used, and "batch": with the statistics
        of training batches that the targets join, as the published code measures; each has "logits", ``E x T x C``,
        averages over the batches there, "success", the share of targets that are taken for the wanted class, and
        "confidence", the mean probability of that class. "validation_accuracy": on test images without the targets.
        "distances": the mean Euclidean distance of features between targets and groups of training images.
        """
        apart = [logits[None] for logits in self._evaluation]
        return {
            "evaluation": self._looked(apart),
            "batch": self._looked(self._in_batches),
            "validation_accuracy": self._accuracies,
            "distances": self._distances,
        }

    def _looked(self, logits: Sequence[torch.Tensor]) -> dict[str, Any]:
        """Of logits ``(n, T, C)`` of each epoch, in n batches."""
        wanted = self._view.wanted
        picked = [one.softmax(2)[:, torch.arange(len(wanted)), wanted] for one in logits]
        return {
            "logits": [[[round(value, 4) for value in target] for target in one.mean(0).tolist()] for one in logits],
            "success": [float((one.argmax(2) == wanted).double().mean()) for one in logits],
            "confidence": [round(float(one.mean()), 6) for one in picked],
        }


def predicted_on(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Int64 ``(N,)``, on the CPU: what ``network``, then in evaluation mode, takes uint8 images on its device for."""
    batches = (as_input(some) for some in images.split(EVALUATION_BATCH))
    return predicted_classes(network.eval(), batches, str(images.device))


def final(values: Mapping[str, Any], statistics: str = "evaluation", epochs: int = 1) -> dict[str, float]:
    """ "success" and "confidence", means over the last ``epochs`` of a record's "evaluation" or "batch" part."""
    return {name: fmean(values[statistics][name][-epochs:]) for name in ("success", "confidence")}
