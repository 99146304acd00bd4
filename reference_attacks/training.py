"""What all training loops share: images as input, the learning rate's course, predictions."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from .data import ImageSet

WARM_UP = 0.2


def as_input(images: torch.Tensor) -> torch.Tensor:
    """Float32 images in [0, 1], channels last in memory, of uint8 ``(N, C, H, W)`` ones."""
    return images.float().div_(255).contiguous(memory_format=torch.channels_last)


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
