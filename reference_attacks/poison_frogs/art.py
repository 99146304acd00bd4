"""The Adversarial Robustness Toolbox's feature collision, to be measured beside ours; it is no dependency."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from ..baselines.tools import missing
from .crafting import CraftingPlan

PACKAGE = "adversarial-robustness-toolbox"
MODULE = "art.attacks.poisoning.feature_collision_attack"
# Its default, which is made for another network, and smaller ones.
LEARNING_RATES = (500 * 255.0, 100.0, 10.0, 1.0, 0.1)


def art_missing() -> str | None:
    """Why ART cannot be measured here, None if it can."""
    return missing(PACKAGE, (MODULE, "art.estimators.classification"), f"pip install {PACKAGE}")


def art_craft(
    features: Callable[[torch.Tensor], torch.Tensor],
    bases: torch.Tensor,
    targets: torch.Tensor,
    plan: CraftingPlan,
    iterations: int,
    learning_rate: float,
) -> torch.Tensor:
    """Uint8 ``(N, C, H, W)``: poisons by ``FeatureCollisionAttack``, one after the other, rounded.

    ``similarity`` is converted so that its β is ours; everything else but ``iterations`` and ``learning_rate`` is its
    default. It lets the learning rate of one poison decay into the next one's, so each poison gets a fresh attack.
    """
    from art.attacks.poisoning.feature_collision_attack import FeatureCollisionAttack
    from art.estimators.classification import PyTorchClassifier

    classifier = PyTorchClassifier(
        model=_Layers(features),
        loss=nn.CrossEntropyLoss(),
        input_shape=tuple(bases.shape[1:]),
        nb_classes=2,
        clip_values=(0.0, 1.0),
        device_type="cpu" if bases.device.type == "cpu" else "gpu",
    )
    found = []
    for base, target in zip(bases, targets, strict=True):
        attack: Any = FeatureCollisionAttack(
            classifier,
            target.cpu().float().div(255)[None].numpy(),
            feature_layer=classifier.layer_names[0],
            max_iter=iterations,
            learning_rate=learning_rate,
            # Its β is similarity · (D / numbers in an image)², for pixels in [0, 1].
            similarity_coeff=plan.similarity * 255**2,
            watermark=None,
            verbose=False,
        )
        poison, _ = attack.poison(base.cpu().float().div(255)[None].numpy())
        found.append(torch.from_numpy(np.clip(poison[0] * 255, 0, 255)).round().to(torch.uint8))
    return torch.stack(found).to(bases.device)


class _Layers(nn.Module):
    """The features as one named layer, and a last layer that nobody looks at."""

    def __init__(self, features: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.features = _Function(features)
        self.output = nn.LazyLinear(2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.output(self.features(images))
        return logits


class _Function(nn.Module):
    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.function(images)
