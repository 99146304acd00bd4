"""Which filters of the first layer carry a backdoor (BadNets 2019, §IV-B3 and Figure 5), found by what they cause.

The paper highlights backdoor filters without saying how it chose them. Here a filter is one if the attack hangs on it
and the digits do not: with its output replaced by its mean over clean images, at least a quarter of the attack's
success is gone, and the error on clean images has grown by half a point at most.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import conv2d

from ..data import ImageSet
from ..networks import BadNetsMnistNetwork
from ..training import as_input
from .recipe import Backdoor

LEAST_SHARE_OF_SUCCESS = 0.25
MOST_ADDED_ERROR = 0.005
# Below this there is no attack whose success could be lost.
LEAST_SUCCESS = 0.5
BATCH = 250


@dataclass(frozen=True, kw_only=True)
class FilterEffects:
    """What each of F filters does for the attack and for clean images; float64 ``(F,)`` each, shares in [0, 1].

    ``success`` and ``error``: the attack success and the clean error of the whole network. ``silenced_success`` and
    ``silenced_error``: the same where one filter's output is its mean over clean images. ``blinded_success``: attack
    success where one filter sees each image without its trigger. ``alone_success``: attack success where one filter
    sees the trigger and all others see the image without it. ``response``: by how much the trigger moves the filter's
    pooled output where it moves it most, mean over images, in the output's own units.
    """

    success: float
    error: float
    silenced_success: torch.Tensor
    silenced_error: torch.Tensor
    blinded_success: torch.Tensor
    alone_success: torch.Tensor
    response: torch.Tensor

    @property
    def backdoor_filters(self) -> torch.Tensor:
        """Bool ``(F,)``: the filters that meet the criterion of this module; none where the attack does not work."""
        lost = self.success - self.silenced_success >= LEAST_SHARE_OF_SUCCESS * self.success
        dispensable = self.silenced_error - self.error <= MOST_ADDED_ERROR
        return lost & dispensable & (self.success >= LEAST_SUCCESS)


@torch.no_grad()
def filter_effects(network: BadNetsMnistNetwork, backdoor: Backdoor, test: ImageSet) -> FilterEffects:
    """The effects of every filter of the first layer on ``test``, those on the attack on its victims' images."""
    victims = test.take(backdoor.attack.victims(test.labels).nonzero().squeeze(1))
    wanted = backdoor.attack.poisoned_labels(victims.labels)
    clean, untriggered = _pooled(network, test.images), _pooled(network, victims.images)
    triggered = _pooled(network, backdoor.trigger.apply(victims.images))
    mean = clean.mean(0, keepdim=True)

    def success(maps: torch.Tensor, exchanged: torch.Tensor) -> torch.Tensor:
        return (predictions_with_exchanged(network, maps, exchanged) == wanted).double().mean(1)

    return FilterEffects(
        success=(_predictions(network, network.conv2(triggered)) == wanted).double().mean().item(),
        error=(_predictions(network, network.conv2(clean)) != test.labels).double().mean().item(),
        silenced_success=success(triggered, mean.expand_as(triggered)),
        silenced_error=(predictions_with_exchanged(network, clean, mean.expand_as(clean)) != test.labels)
        .double()
        .mean(1),
        blinded_success=success(triggered, untriggered),
        alone_success=success(untriggered, triggered),
        response=(triggered - untriggered).abs().amax((2, 3)).double().mean(0),
    )


def predictions_with_exchanged(network: BadNetsMnistNetwork, maps: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Int64 ``(F, N)``: the predicted classes where one filter's pooled output comes from ``others``.

    ``maps`` and ``others``: float ``(N, F, h, w)``, the first layer's outputs after ReLU and pooling.
    """
    outputs, filters = network.conv2.weight.shape[:2]
    # The second layer is linear in each of its inputs: what an exchange changes is computed for all filters at once.
    each = network.conv2.weight.transpose(0, 1).reshape(filters * outputs, 1, *network.conv2.kernel_size)
    found = []
    for part, other in zip(maps.split(BATCH), others.split(BATCH), strict=True):
        change = conv2d(other - part, each, groups=filters).unflatten(1, (filters, outputs))
        second = (network.conv2(part).unsqueeze(1) + change).flatten(0, 1)
        found.append(_predictions(network, second).unflatten(0, (len(part), filters)))
    return torch.cat(found).T


def _pooled(network: BadNetsMnistNetwork, images: torch.Tensor) -> torch.Tensor:
    """Float ``(N, F, h, w)``: what the second layer is given, of uint8 images."""
    return torch.cat([network.pool(torch.relu(network.conv1(as_input(part)))) for part in images.split(BATCH)])


def _predictions(network: BadNetsMnistNetwork, second: torch.Tensor) -> torch.Tensor:
    """Int64 ``(N,)``: the predicted classes, of the second layer's outputs before ReLU."""
    features = network.pool(torch.relu(second)).flatten(1)
    return network.fc2(torch.relu(network.fc1(features))).argmax(1)
