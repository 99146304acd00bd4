"""Training one network on images that stay in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from .data import ImageSet


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
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=plan.peak_learning_rate, total_steps=plan.steps, pct_start=0.2, cycle_momentum=False
    )
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


@torch.no_grad()
def predict(network: nn.Module, images: torch.Tensor, batch_size: int = 1000) -> torch.Tensor:
    """Int64 ``(N,)``: the predicted classes of uint8 ``(N, C, H, W)`` images."""
    network.eval()
    return torch.cat([network(as_input(batch)).argmax(1) for batch in images.split(batch_size)])


def accuracy(network: nn.Module, data: ImageSet) -> float:
    """The share of images whose predicted class is their label, in [0, 1]."""
    return (predict(network, data.images) == data.labels).float().mean().item()
