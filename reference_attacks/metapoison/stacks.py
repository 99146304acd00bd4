"""Many networks of one architecture as stacked weights and one functional program."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from ..zoo.recipe import Precision

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class Stack:
    """G networks: their ``weights`` and ``buffers``, each stacked along a first axis of length G."""

    weights: Tensors
    buffers: Tensors

    def __len__(self) -> int:
        return len(next(iter(self.weights.values())))

    def part(self, which: slice) -> Stack:
        """Views of some of them."""
        return Stack(
            weights={name: value[which] for name, value in self.weights.items()},
            buffers={name: value[which] for name, value in self.buffers.items()},
        )

    def put(self, number: int, network: nn.Module) -> None:
        """Overwrite one of them by ``network``'s weights and buffers."""
        with torch.no_grad():
            for stacked, own in ((self.weights, network.named_parameters()), (self.buffers, network.named_buffers())):
                for name, value in own:
                    stacked[name][number].copy_(value)


def stacked(networks: Sequence[nn.Module], device: torch.device | str) -> Stack:
    """Copies of ``networks``, without graphs, on ``device``."""

    def together(tensors: Sequence[Tensors]) -> Tensors:
        return {name: torch.stack([one[name].detach().to(device) for one in tensors]) for name in tensors[0]}

    return Stack(
        weights=together([dict(network.named_parameters()) for network in networks]),
        buffers=together([dict(network.named_buffers()) for network in networks]),
    )


class Networks:
    """Forward passes of stacked networks of one architecture: float images ``(G, B, C, H, W)`` to float logits
    ``(G, B, classes)``.

    Where G is 1 the network is called without the batching, which on a CPU costs more than it saves. Under "bfloat16"
    the products are rounded to it, and logits are float32.
    """

    def __init__(self, template: nn.Module, *, device: torch.device | str, precision: Precision = "float32") -> None:
        self._training = deepcopy(template).to(device).requires_grad_(False).train()
        self._evaluating = deepcopy(self._training).eval()
        # Batch normalisation with the batch's statistics that leaves the running ones alone.
        self._unrolled = deepcopy(self._training)
        for module in self._unrolled.modules():
            if isinstance(module, _BatchNorm):
                module.track_running_stats = False
        self._device = torch.device(device).type
        self._bfloat16 = precision == "bfloat16"

    def training(self, weights: Tensors, buffers: Tensors, images: torch.Tensor) -> torch.Tensor:
        """With the batch's statistics; running statistics in ``buffers`` are updated."""
        return self._logits(self._training, weights, buffers, images)

    def unrolled(self, weights: Tensors, buffers: Tensors, images: torch.Tensor) -> torch.Tensor:
        """With the batch's statistics; ``buffers`` stay as they are."""
        return self._logits(self._unrolled, weights, buffers, images)

    def evaluating(self, weights: Tensors, buffers: Tensors, images: torch.Tensor) -> torch.Tensor:
        """With the running statistics."""
        return self._logits(self._evaluating, weights, buffers, images)

    def _logits(self, network: nn.Module, weights: Tensors, buffers: Tensors, images: torch.Tensor) -> torch.Tensor:
        def one(own: Tensors, state: Tensors, batch: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = functional_call(network, (own, state), (batch,))
            return logits

        with torch.autocast(self._device, torch.bfloat16, enabled=self._bfloat16):
            if len(images) == 1:
                first = [{name: value[0] for name, value in tensors.items()} for tensors in (weights, buffers)]
                logits = one(first[0], first[1], images[0])[None]
            else:
                logits = torch.vmap(one)(weights, buffers, images)
        return logits.float() if self._bfloat16 else logits
