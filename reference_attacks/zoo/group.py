"""Training a group of networks of one architecture as one batched program."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.func import functional_call, stack_module_state
from torch.nn.functional import cross_entropy

from ..tasks import Task
from ..training import one_cycle
from .batches import Batches
from .recipe import Precision

WEIGHT_DECAY = 1e-2

Forward = Callable[[torch.Tensor], torch.Tensor]


def train_group(networks: Sequence[nn.Module], batches: Batches, task: Task, *, precision: Precision) -> None:
    """Train ``networks`` in place, together, and leave them in evaluation mode.

    AdamW under a one-cycle learning rate. It works element by element and the losses of the networks are added up, so
    each network takes the steps that it would take alone, up to rounding.
    """
    parameters, forward, write_back = _together(networks)
    optimizer = torch.optim.AdamW(parameters, weight_decay=WEIGHT_DECAY, fused=True)
    schedule = one_cycle(optimizer, task.peak_learning_rate, len(batches))
    device = parameters[0].device.type
    for step in range(len(batches)):
        images, labels = batches[step]
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16"):
            logits = forward(images)
        loss = cross_entropy(logits.float(), labels) * len(networks)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    write_back()
    for network in networks:
        network.eval()


def _together(networks: Sequence[nn.Module]) -> tuple[list[torch.Tensor], Forward, Callable[[], None]]:
    """The parameters to optimise, a forward pass of the whole group, and what copies the result back."""
    for network in networks:
        network.to(memory_format=torch.channels_last).train()
    first = networks[0]
    if len(networks) == 1:
        # The same program without the batching, which on a CPU costs more than it saves.
        return list(first.parameters()), first, lambda: None
    parameters, buffers = stack_module_state(list(networks))

    def one(weights: dict[str, torch.Tensor], state: dict[str, torch.Tensor], images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = functional_call(first, (weights, state), (images,))
        return logits

    def forward(images: torch.Tensor) -> torch.Tensor:
        apart = images.unflatten(0, (len(networks), -1))
        return torch.vmap(one)(parameters, buffers, apart).flatten(0, 1)

    def write_back() -> None:
        with torch.no_grad():
            for number, network in enumerate(networks):
                for stacked, own in ((parameters, network.named_parameters()), (buffers, network.named_buffers())):
                    for name, tensor in own:
                        tensor.copy_(stacked[name][number])

    return list(parameters.values()), forward, write_back
