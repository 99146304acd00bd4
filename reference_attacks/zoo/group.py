"""Training a group of networks of one architecture as one batched program."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.func import functional_call, stack_module_state
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LRScheduler

from ..recipes import Training
from ..training import one_cycle
from .batches import Batches
from .muon import Muon
from .recipe import Precision

Forward = Callable[[torch.Tensor], torch.Tensor]
Scheduled = tuple[Sequence[torch.optim.Optimizer], Sequence[LRScheduler]]


def train_group(
    networks: Sequence[nn.Module],
    batches: Batches,
    training: Training,
    *,
    precision: Precision,
    on_step: Callable[[int], None] | None = None,
) -> None:
    """Train ``networks`` in place, together, and leave them in evaluation mode.

    AdamW or SGD, for some recipes with Muon for the kernels, under a one-cycle learning rate. The first two work
    element by element, the other kernel by kernel, and the losses of the networks are added up, so each network takes
    the steps that it would take alone, up to rounding. ``on_step`` is called with the number of steps done.
    """

    def optimizers(parameters: Sequence[torch.Tensor]) -> Scheduled:
        return _optimizers(parameters, training, len(batches))

    train_group_by(
        optimizers,
        networks,
        batches,
        precision=precision,
        label_smoothing=training.label_smoothing,
        on_step=on_step,
    )


def train_group_by(
    make_optimizers: Callable[[Sequence[torch.Tensor]], Scheduled],
    networks: Sequence[nn.Module],
    batches: Batches,
    *,
    precision: Precision,
    label_smoothing: float = 0.0,
    on_step: Callable[[int], None] | None = None,
    steps_of_epoch: int = 0,
    on_epoch: Callable[[int], None] | None = None,
) -> None:
    """As ``train_group``, by optimisers of one's own, which have to work element by element or network by network.

    ``make_optimizers``: of the parameters, those of G > 1 networks stacked along a first axis, the optimisers and the
    schedules that are stepped with them. ``on_epoch`` is called after every ``steps_of_epoch`` steps with the number of
    epochs done, while ``networks`` hold their weights of that moment.
    """
    parameters, forward, write_back = _together(networks)
    optimizers, schedules = make_optimizers(parameters)
    device = parameters[0].device.type
    for step in range(len(batches)):
        images, labels = batches[step]
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16"):
            logits = forward(images)
        loss = cross_entropy(logits.float(), labels, label_smoothing=label_smoothing) * len(networks)
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        for schedule in schedules:
            schedule.step()
        if on_step:
            on_step(step + 1)
        if on_epoch and (step + 1) % steps_of_epoch == 0:
            write_back()
            on_epoch((step + 1) // steps_of_epoch)
    write_back()
    for network in networks:
        network.eval()


def _optimizers(parameters: Sequence[torch.Tensor], training: Training, steps: int) -> Scheduled:
    """What trains ``parameters``, and the learning rate of each optimiser over ``steps``."""
    # A kernel has four axes, one more in a stack of networks; nothing else has as many.
    kernels = [value for value in parameters if value.dim() >= 4 and training.kernel_learning_rate]
    others = [value for value in parameters if not any(value is kernel for kernel in kernels)]
    optimizers = [_element_wise(others, training)]
    peaks = [training.peak_learning_rate]
    if kernels:
        optimizers.append(Muon(kernels, lr=training.kernel_learning_rate, weight_decay=training.weight_decay))
        peaks.append(training.kernel_learning_rate)
    return optimizers, [one_cycle(*pair, steps) for pair in zip(optimizers, peaks, strict=True)]


def _element_wise(parameters: Sequence[torch.Tensor], training: Training) -> torch.optim.Optimizer:
    if training.momentum:
        return torch.optim.SGD(
            parameters,
            lr=training.peak_learning_rate,
            momentum=training.momentum,
            nesterov=True,
            weight_decay=training.weight_decay,
            fused=True,
        )
    return torch.optim.AdamW(parameters, weight_decay=training.weight_decay, fused=True)


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
