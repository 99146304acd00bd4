"""Figure 6b of MetaPoison: how far poisons are from the target in a network's features (§3.7)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ..poison_frogs.crafting import CraftingPlan as CollisionPlan
from ..poison_frogs.crafting import Features
from ..poison_frogs.crafting import craft as collide
from ..training import as_input
from .problem import Problem

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
OWN_CLASS = 200
COLLISION_STEPS = 200


def feature_distances(
    problem: Problem, poisons: torch.Tensor, networks: Mapping[str, Features], *, bound: float
) -> dict[str, Any]:
    """Quantiles of ‖f(x) − f(t)‖ to the first target, by network and kind of image, as JSON values.

    ``poisons``: uint8 ``(P, C, H, W)``. ``networks``: the features of frozen networks on the CPU, in evaluation mode;
    collisions are crafted against the first one. Distances are in units of the median distance of the bases, the
    poisons' images as they are, so that networks can be compared.

    "collisions": what Poison Frogs (Algorithm 1 there) makes of the same bases within the same ``bound``, for pixels in
    [0, 1]: poisons whose mechanism is that their features collide with the target's. "target's class": training images
    of the class that the target is of.
    """
    target = problem.targets[:1]
    plan = CollisionPlan(iterations=COLLISION_STEPS, bound=bound)
    targets = target.expand_as(problem.bases).contiguous()
    collisions = collide(next(iter(networks.values())), problem.bases, targets, plan).images
    own_class = problem.clean.of_class(int(problem.true_labels[0])).images[:OWN_CLASS]
    kinds = {"poisons": poisons, "bases": problem.bases, "collisions": collisions, "target's class": own_class}
    return {name: _distances(features, target, kinds) for name, features in networks.items()}


@torch.no_grad()
def _distances(features: Features, target: torch.Tensor, kinds: Mapping[str, torch.Tensor]) -> dict[str, Any]:
    wanted = features(as_input(target))
    distances = {name: (features(as_input(images)) - wanted).norm(dim=1) for name, images in kinds.items()}
    unit = distances["bases"].median().clamp(min=1e-12)
    levels = torch.tensor(QUANTILES)
    return {
        name: [round(value, 4) for value in torch.quantile(found / unit, levels).tolist()]
        for name, found in distances.items()
    }
