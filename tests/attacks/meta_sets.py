"""Made-up poisoning problems for the tests of MetaPoison."""

from __future__ import annotations

from typing import Any

import torch

from reference_attacks.data import ImageSet
from reference_attacks.metapoison.problem import Problem
from reference_attacks.metapoison.settings import CraftingPlan

CLASSES = 3


def made_up_problem(*, images: int = 36, poisons: int = 6, channels: int = 3) -> Problem:
    """Noise of 16x16 pixels around one mean for each class; the poisons are of class 1, the target of class 0."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(images) % CLASSES
    noise = torch.randint(100, (images + 1, channels, 16, 16), generator=generator)
    shades = torch.cat([labels, torch.zeros(1, dtype=torch.int64)]) * 60
    everything = (noise + shades.view(-1, 1, 1, 1)).to(torch.uint8)
    return Problem(
        clean=ImageSet(images=everything[:-1], labels=labels),
        poisons=(labels == 1).nonzero()[:poisons, 0],
        targets=everything[-1:],
        true_labels=torch.tensor([0]),
        labels=torch.tensor([1]),
        classes=CLASSES,
    )


def small_plan(**changes: Any) -> CraftingPlan:
    """A few craft steps of two surrogates of the small network."""
    settings = {"network": "small-convnet", "surrogates": 2, "epochs": 3, "steps": 4, "batch": 12} | changes
    return CraftingPlan(**settings)
