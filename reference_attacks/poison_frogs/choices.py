"""Which images a transfer-learning experiment is about: training and test images, targets and bases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..data import ImageSet

SMALL_SHARE = 0.05


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """One target and one base for each experiment.

    ``targets``, ``bases``: int64 ``(N,)``, indices of test images.
    """

    targets: torch.Tensor
    bases: torch.Tensor

    def __len__(self) -> int:
        return len(self.targets)


def drawn_from_each_class(images: ImageSet, count: int, generator: torch.Generator) -> ImageSet:
    """At most ``count`` images of each class, drawn without replacement."""
    chosen = []
    for label in range(int(images.labels.max()) + 1):
        candidates = (images.labels == label).nonzero()[:, 0]
        chosen.append(candidates[torch.randperm(len(candidates), generator=generator)[:count]])
    return images.take(torch.cat(chosen))


def without_images_of(images: ImageSet, others: ImageSet) -> ImageSet:
    """The images that are not, pixel for pixel, among ``others``: else a target might be its own poison (§3.1)."""
    known = {image.numpy().tobytes() for image in others.images.contiguous()}
    fresh = [number for number, image in enumerate(images.images.contiguous()) if image.numpy().tobytes() not in known]
    return images.take(torch.tensor(fresh, dtype=torch.int64))


def draw_pairs(
    labels: torch.Tensor, eligible: torch.Tensor, count: int, generator: torch.Generator, *, classes: Sequence[int]
) -> Pairs:
    """``count`` targets of each of two ``classes``, or as many as there are, each with a random base of the other one.

    ``labels``: int64 ``(n,)`` of test images. ``eligible``: bool ``(n,)``, which of them may be targets; any image may
    be a base. Targets are drawn without replacement, bases with.
    """
    targets, bases = [], []
    first, second = classes
    for target_class, base_class in ((first, second), (second, first)):
        candidates = ((labels == target_class) & eligible).nonzero()[:, 0]
        chosen = candidates[torch.randperm(len(candidates), generator=generator)[:count]]
        others = (labels == base_class).nonzero()[:, 0]
        targets.append(chosen)
        bases.append(others[torch.randint(len(others), (len(chosen),), generator=generator)])
    return Pairs(targets=torch.cat(targets), bases=torch.cat(bases))


def with_nearest_bases(
    pairs: Pairs, features: torch.Tensor, labels: torch.Tensor, candidates: int, generator: torch.Generator
) -> Pairs:
    """``pairs``, each with the base whose features are nearest to the target's, of ``candidates`` random ones.

    ``features``: float ``(n, D)`` and ``labels``: int64 ``(n,)`` of test images. A base keeps its class; the one that a
    pair has is one of the candidates. An attacker may choose; the paper has random bases.
    """
    bases = pairs.bases.clone()
    for label in labels[pairs.bases].unique():
        rows = (labels[pairs.bases] == label).nonzero()[:, 0]
        others = (labels == label).nonzero()[:, 0]
        drawn = others[torch.randint(len(others), (len(rows), candidates - 1), generator=generator)]
        tried = torch.cat([pairs.bases[rows, None], drawn], dim=1)
        distances = (features[tried] - features[pairs.targets[rows], None]).norm(dim=2)
        bases[rows] = tried[torch.arange(len(rows)), distances.argmin(1)]
    return Pairs(targets=pairs.targets, bases=bases)


def small_distance(features: torch.Tensor) -> float:
    """A Euclidean distance that few of the features ``(n, D)`` are nearer than to their nearest neighbour: one in 20.

    The paper takes the least of all (Figure 1). In sets with near-duplicates, as CIFAR-10 and videos of traffic signs
    have them, that is next to nothing.
    """
    distances = torch.cdist(features, features).fill_diagonal_(torch.inf)
    return float(distances.amin(1).quantile(SMALL_SHARE))
