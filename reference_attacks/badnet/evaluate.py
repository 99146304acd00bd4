"""What a network does on clean and on backdoored test images (BadNets 2019, §IV-B)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from reference_attacks.data import ImageSet
from reference_attacks.poisoning import Attack
from reference_attacks.training import predict

from .recipe import Backdoor


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Counts of predictions, and the paper's figures that follow from them.

    ``clean`` and ``backdoored``: int64 ``(classes, classes)``, the test images of each true class (row) by predicted
    class (column), as they are and with the trigger. ``attack`` and ``backdoored`` are None where there is no trigger.
    """

    clean: torch.Tensor
    backdoored: torch.Tensor | None = None
    attack: Attack | None = None

    @property
    def clean_accuracy(self) -> float:
        """The share of clean test images that are classified rightly, in [0, 1]."""
        return int(self.clean.diagonal().sum()) / int(self.clean.sum())

    @property
    def clean_error_per_class(self) -> list[float | None]:
        """For each class the share of its clean test images that are misclassified; None without images."""
        return _errors(self.clean, torch.arange(len(self.clean)))

    @property
    def attack_success(self) -> float | None:
        """The share of backdoored test images of the victims' classes that get the attacker's label, in [0, 1]."""
        if self.backdoored is None or self.attack is None:
            return None
        victims, labels = self._victims_and_labels(self.attack)
        hits = self.backdoored.gather(1, labels.unsqueeze(1)).squeeze(1)
        count = int(self.backdoored.sum(1)[victims].sum())
        return int(hits[victims].sum()) / count if count else None

    @property
    def backdoor_error_per_class(self) -> list[float | None] | None:
        """For each class the share of its backdoored test images that escape the attacker's label.

        This is the paper's error against the poisoned labels, low where the attack works (§IV-B, Table II); None for
        a class that the attack leaves alone.
        """
        if self.backdoored is None or self.attack is None:
            return None
        victims, labels = self._victims_and_labels(self.attack)
        errors = _errors(self.backdoored, labels)
        return [error if victim else None for error, victim in zip(errors, victims.tolist(), strict=True)]

    def _victims_and_labels(self, attack: Attack) -> tuple[torch.Tensor, torch.Tensor]:
        classes = torch.arange(len(self.clean))
        return attack.victims(classes), attack.poisoned_labels(classes)


def measure(network: nn.Module, test: ImageSet, backdoor: Backdoor | None, classes: int = 10) -> Measurement:
    """Classify ``test`` as it is and, if there is a ``backdoor``, with its trigger on every image."""
    clean = count_predictions(test.labels, predict(network, test.images), classes)
    if backdoor is None:
        return Measurement(clean=clean)
    predicted = predict(network, backdoor.trigger.apply(test.images))
    return Measurement(
        clean=clean, backdoored=count_predictions(test.labels, predicted, classes), attack=backdoor.attack
    )


def count_predictions(labels: torch.Tensor, predicted: torch.Tensor, classes: int) -> torch.Tensor:
    """Int64 ``(classes, classes)``: how many images of a class (row) were given a class (column)."""
    return torch.bincount(labels * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def _errors(counts: torch.Tensor, labels: torch.Tensor) -> list[float | None]:
    totals = counts.sum(1)
    hits = counts.gather(1, labels.unsqueeze(1)).squeeze(1)
    return [1 - hit / total if total else None for hit, total in zip(hits.tolist(), totals.tolist(), strict=True)]
