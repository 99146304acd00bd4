"""Figure 3 of Poison Frogs: features on the plane that best shows two classes apart (§4.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from ..networks import SmallAlexNet
from ..training import as_input
from .victims import boundary


@torch.no_grad()
def project(network: SmallAlexNet, groups: Mapping[str, torch.Tensor], target_class: int, base_class: int) -> Any:
    """Coordinates of images on the network's plane, as JSON values.

    ``groups``: uint8 images ``(N, C, H, W)`` by name, among them "target class" and "base class", training images whose
    centroids make the first axis u = μ_base − μ_target. The second is the part of θ orthogonal to u, θ the normal of
    the last layer's boundary between the two classes, all in the 193 dimensions of features and a bias. Since θ lies in
    the plane, the boundary is exactly the line through the origin with the normal "boundary". Each network has its own
    plane, so that the side on which a point lies is the side on which the network puts it.
    """
    features = {name: _with_bias(network.features(as_input(images))) for name, images in groups.items()}
    first = features["base class"].mean(0) - features["target class"].mean(0)
    first = first / first.norm()
    normal = boundary(network, base_class, target_class)
    second = normal - (normal @ first) * first
    axes = torch.stack([first, second / second.norm()], dim=1)
    points = {name: _rounded(values @ axes) for name, values in features.items()}
    return {"points": points, "boundary": _rounded(normal @ axes)}


def _with_bias(features: torch.Tensor) -> torch.Tensor:
    return torch.cat([features, features.new_ones(len(features), 1)], dim=1).double()


def _rounded(values: torch.Tensor) -> Any:
    return (values * 1000).round().div(1000).tolist()
