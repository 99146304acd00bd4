"""Training one network on images that stay in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import nn

from .data import ImageSet

WARM_UP = 0.2


@dataclass(frozen=True, kw_only=True)
class TrainingPlan:
    """How a network is trained: Adam under a one-cycle learning rate, for a fixed number of steps.

    The number of steps, not of epochs, is fixed, so that a poisoned network whose training set has more images is
    trained no longer than its clean twin.
    """

    steps: int
    batch_size: int = 64
    peak_learning_rate: float = 6e-3
    weight_decay: float = 0.0


def as_input(images: torch.Tensor) -> torch.Tensor:
    """Float32 images in [0, 1], channels last in memory, of uint8 ``(N, C, H, W)`` ones."""
    return images.float().div_(255).contiguous(memory_format=torch.channels_last)


def train(
    network: nn.Module,
    data: ImageSet,
    plan: TrainingPlan,
    generator: torch.Generator,
    on_step: Callable[[int], None] | None = None,
) -> nn.Module:
    """Train ``network`` in place and return it in evaluation mode.

    Batches are drawn epoch by epoch without replacement from ``generator``; ``on_step`` is called with the number
    of steps done.
    """
    network = network.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(network.parameters(), weight_decay=plan.weight_decay, fused=True)
    schedule = one_cycle(optimizer, plan.peak_learning_rate, plan.steps)
    loss_function = nn.CrossEntropyLoss()
    order = torch.empty(0, dtype=torch.int64)
    for step in range(plan.steps):
        if len(order) < plan.batch_size:
            order = torch.randperm(len(data), generator=generator)
        batch, order = order[: plan.batch_size], order[plan.batch_size :]
        loss = loss_function(network(as_input(data.images[batch])), data.labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if on_step:
            on_step(step + 1)
    return network.eval()


def one_cycle(optimizer: torch.optim.Optimizer, peak: float, steps: int) -> torch.optim.lr_scheduler.OneCycleLR:
    """A learning rate that grows to ``peak`` in the first fifth of ``steps`` and falls in the rest."""
    # OneCycleLR divides by zero where the first part is exactly one step.
    share = 1.5 * WARM_UP if steps * WARM_UP == 1 else WARM_UP
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=peak, total_steps=steps, pct_start=share, cycle_momentum=False
    )


@torch.no_grad()
def predicted_classes(network: nn.Module, batches: Iterable[torch.Tensor], device: str = "cpu") -> torch.Tensor:
    """Int64 ``(N,)``, on the CPU: the predicted classes of batches of float images, by a network on ``device``."""
    return torch.cat([network(images.to(device)).argmax(1).cpu() for images in batches])


def predict(network: nn.Module, images: torch.Tensor, batch_size: int = 1000) -> torch.Tensor:
    """Int64 ``(N,)``: the predicted classes of uint8 ``(N, C, H, W)`` images."""
    network.eval()
    return predicted_classes(network, (as_input(batch) for batch in images.split(batch_size)))


def accuracy(network: nn.Module, data: ImageSet) -> float:
    """The share of images whose predicted class is their label, in [0, 1]."""
    return (predict(network, data.images) == data.labels).float().mean().item()
