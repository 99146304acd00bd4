"""Which filters of the first layer carry a backdoor (BadNets 2019, §IV-B3 and Figure 5), found by what they cause.

The paper highlights "filters dedicated to detecting the backdoor" and does not say how it chose them. Here they are the
few filters on which the attack hangs and the digits do not: one filter after the other is silenced, that is, its output
replaced by its mean over clean images, each time the one whose silence makes the attacker's label least likely, until
at least nine tenths of the attack's success is gone. They are backdoor filters if no more than four were needed, and if
silencing them together adds half a point at most to the error on clean images. One by one would not do: networks often
hold two filters for the same trigger, and either is enough for the attack.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn.functional import conv2d

from ..data import ImageSet
from ..networks import BadNetsMnistNetwork
from ..training import as_input
from .recipe import Backdoor

LEAST_SHARE_OF_SUCCESS = 0.9
MOST_ADDED_ERROR = 0.005
MOST_FILTERS = 4
# Below this there is no attack whose success could be lost.
LEAST_SUCCESS = 0.5
BATCH = 250


@dataclass(frozen=True, kw_only=True)
class FilterEffects:
    """What each of F filters does for the attack and for clean images; float64 ``(F,)`` each, shares in [0, 1].

    ``silenced_success`` and ``silenced_error``: attack success and clean error where one filter's output is its mean
    over clean images. ``blinded_success``: attack success where one filter sees each image without its trigger.
    ``alone_success``: attack success where one filter sees the trigger and all others see the image without it.
    ``response``: by how much the trigger moves the filter's pooled output where it moves it most, mean over images, in
    the output's own units.
    """

    silenced_success: torch.Tensor
    silenced_error: torch.Tensor
    blinded_success: torch.Tensor
    alone_success: torch.Tensor
    response: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class SilencedFilters:
    """The filters that were silenced together, in the order in which they were found, and what that does.

    ``success`` and ``error``: attack success and clean error of the whole network, in [0, 1]. ``silenced_success`` and
    ``silenced_error``: the same without ``filters``. ``alone_success``: attack success where these filters see the
    trigger and all others see the image without it.
    """

    filters: tuple[int, ...]
    success: float
    error: float
    silenced_success: float
    silenced_error: float
    alone_success: float

    @property
    def dedicated(self) -> bool:
        """Whether these filters meet the criterion of this module: the backdoor hangs on them, and nothing else."""
        return bool(self.filters) and self.silences_attack and self.silenced_error - self.error <= MOST_ADDED_ERROR

    @property
    def silences_attack(self) -> bool:
        """Whether so little of the attack's success is left that no further filter is looked for."""
        return self.silenced_success <= (1 - LEAST_SHARE_OF_SUCCESS) * self.success


class FilterExperiment:
    """One network under one attack, with what its first layer makes of the test images.

    ``test``: clean images are all of it, the attack's its victims' among them.
    """

    @torch.no_grad()
    def __init__(self, network: BadNetsMnistNetwork, backdoor: Backdoor, test: ImageSet) -> None:
        victims = test.take(backdoor.attack.victims(test.labels).nonzero().squeeze(1))
        self._network = network
        self._labels, self._wanted = test.labels, backdoor.attack.poisoned_labels(victims.labels)
        self._clean, self._untriggered = _pooled(network, test.images), _pooled(network, victims.images)
        self._triggered = _pooled(network, backdoor.trigger.apply(victims.images))
        self._mean = self._clean.mean(0, keepdim=True)

    @torch.no_grad()
    def effects(self) -> FilterEffects:
        """What every filter does by itself."""
        silenced = self._mean.expand_as(self._triggered)
        clean = logits_with_exchanged(self._network, self._clean, self._mean.expand_as(self._clean))
        return FilterEffects(
            silenced_success=self._successes(self._triggered, silenced),
            silenced_error=1 - _shares(clean, self._labels),
            blinded_success=self._successes(self._triggered, self._untriggered),
            alone_success=self._successes(self._untriggered, self._triggered),
            response=(self._triggered - self._untriggered).abs().amax((2, 3)).double().mean(0),
        )

    @torch.no_grad()
    def backdoor_filters(self) -> SilencedFilters:
        """The filters that were silenced until the attack was gone, or four of them; none if there is no attack."""
        found = self._silenced(())
        while found.success >= LEAST_SUCCESS and not found.silences_attack and len(found.filters) < MOST_FILTERS:
            found = self._silenced((*found.filters, self._next(found.filters)))
        return found

    def _next(self, silenced: tuple[int, ...]) -> int:
        """The filter whose silence, besides ``silenced``, makes the attacker's label least likely."""
        maps = self._with(self._triggered, silenced, self._mean)
        logits = logits_with_exchanged(self._network, maps, self._mean.expand_as(maps))
        wanted = logits.log_softmax(-1).gather(-1, self._wanted.expand(len(logits), -1).unsqueeze(-1))
        likelihood = wanted.double().mean((1, 2))
        likelihood[list(silenced)] = torch.inf
        return int(likelihood.argmin())

    def _silenced(self, filters: tuple[int, ...]) -> SilencedFilters:
        return SilencedFilters(
            filters=filters,
            success=self._share(self._triggered, self._wanted),
            error=1 - self._share(self._clean, self._labels),
            silenced_success=self._share(self._with(self._triggered, filters, self._mean), self._wanted),
            silenced_error=1 - self._share(self._with(self._clean, filters, self._mean), self._labels),
            alone_success=self._share(self._with(self._untriggered, filters, self._triggered), self._wanted),
        )

    def _with(self, maps: torch.Tensor, filters: tuple[int, ...], others: torch.Tensor) -> torch.Tensor:
        """``maps`` with the outputs of ``filters`` taken from ``others``."""
        chosen = torch.zeros(maps.shape[1], 1, 1, dtype=torch.bool)
        chosen[list(filters)] = True
        return torch.where(chosen, others, maps)

    def _share(self, maps: torch.Tensor, labels: torch.Tensor) -> float:
        logits = torch.cat([_logits(self._network, self._network.conv2(part)) for part in maps.split(BATCH)])
        return _shares(logits, labels).item()

    def _successes(self, maps: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
        return _shares(logits_with_exchanged(self._network, maps, others), self._wanted)


def logits_with_exchanged(network: BadNetsMnistNetwork, maps: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Float ``(F, N, classes)``: the logits where one of F filters' pooled output comes from ``others``.

    ``maps`` and ``others``: float ``(N, F, h, w)``, the first layer's outputs after ReLU and pooling.
    """
    outputs, filters = network.conv2.weight.shape[:2]
    # The second layer is linear in each of its inputs: what an exchange changes is computed for all filters at once.
    each = network.conv2.weight.transpose(0, 1).reshape(filters * outputs, 1, *network.conv2.kernel_size)
    found = []
    for part, other in zip(maps.split(BATCH), others.split(BATCH), strict=True):
        change = conv2d(other - part, each, groups=filters).unflatten(1, (filters, outputs))
        second = (network.conv2(part).unsqueeze(1) + change).flatten(0, 1)
        found.append(_logits(network, second).unflatten(0, (len(part), filters)))
    return torch.cat(found).transpose(0, 1)


def _pooled(network: BadNetsMnistNetwork, images: torch.Tensor) -> torch.Tensor:
    """Float ``(N, F, h, w)``: what the second layer is given, of uint8 images."""
    return torch.cat([network.pool(torch.relu(network.conv1(as_input(part)))) for part in images.split(BATCH)])


def _logits(network: BadNetsMnistNetwork, second: torch.Tensor) -> torch.Tensor:
    """Float ``(N, classes)``: the logits, of the second layer's outputs before ReLU."""
    features = network.pool(torch.relu(second)).flatten(1)
    logits: torch.Tensor = network.fc2(torch.relu(network.fc1(features)))
    return logits


def _shares(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Float64 ``(...)``: the shares of the N images whose predicted class is their label, of ``(..., N, classes)``."""
    return (logits.argmax(-1) == labels).double().mean(-1)
