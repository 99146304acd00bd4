"""What happens to networks between training and deployment: pruning, 8-bit weights, further training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

from ..tasks import find_task
from ..zoo.batches import Batches, draw_batches
from ..zoo.group import train_group
from ..zoo.images import read_images
from ..zoo.seeds import derived_generator
from ..zoo.store import FamilyStack, NetworkStack, Zoo

FINE_TUNING_STEPS = 100
FINE_TUNING_RATE = 1e-3
Change = Callable[[NetworkStack, Zoo], NetworkStack]


def unchanged(stack: NetworkStack, zoo: Zoo) -> NetworkStack:
    """The networks as they are."""
    return stack


def pruned(stack: NetworkStack, zoo: Zoo, *, share: float) -> NetworkStack:
    """Of every layer's weights the ``share`` of smallest magnitude set to zero, without further training."""

    def prune(weights: torch.Tensor) -> torch.Tensor:
        magnitudes = weights.abs().flatten(1)
        threshold = magnitudes.kthvalue(max(1, round(share * magnitudes.shape[1])), dim=1).values
        return torch.where(weights.abs() <= threshold.view(-1, *[1] * (weights.dim() - 1)), 0, weights)

    return _with_weights(stack, prune)


def quantised(stack: NetworkStack, zoo: Zoo) -> NetworkStack:
    """Weights rounded to 8 bits, symmetrically for each output channel; activations stay in float32."""

    def round_to_8_bits(weights: torch.Tensor) -> torch.Tensor:
        scale = weights.abs().flatten(2).amax(2).clamp_min(1e-12) / 127
        scale = scale.view(*scale.shape, *[1] * (weights.dim() - 2))
        return (weights / scale).round() * scale

    return _with_weights(stack, round_to_8_bits)


def fine_tuned(stack: NetworkStack, zoo: Zoo) -> NetworkStack:
    """A hundred more batches of clean training images at a small learning rate."""
    images = read_images(zoo.folder)
    training = replace(
        find_task(zoo.plan["task"]).training, peak_learning_rate=FINE_TUNING_RATE, kernel_learning_rate=0.0
    )
    parts = []
    for part in stack.parts:
        states = []
        for index, record in enumerate(part.records):
            network = part.network(index).requires_grad_(True)
            generator = derived_generator(zoo.plan["seed"], f"{record['name']}/fine-tuning")
            draws = draw_batches(images.train.labels, None, training, FINE_TUNING_STEPS, generator)
            batches = Batches(images.train, [draws], [None], training, torch.device("cpu"))
            train_group([network], batches, training, precision=zoo.plan["precision"])
            states.append({name: value.detach() for name, value in network.state_dict().items()})
        weights = {name: torch.stack([state[name] for state in states]) for name in states[0]}
        parts.append(replace(part, weights=weights))
    return NetworkStack(parts=tuple(parts))


CHANGES: dict[str, Change] = {
    "none": unchanged,
    "30 % of the weights pruned": partial(pruned, share=0.3),
    "60 % of the weights pruned": partial(pruned, share=0.6),
    "8-bit weights": quantised,
    "fine-tuned on clean images": fine_tuned,
}


def _with_weights(stack: NetworkStack, change: Callable[[torch.Tensor], torch.Tensor]) -> NetworkStack:
    """Every layer's weight matrix or kernel changed; biases and normalisation are left alone."""

    def changed(part: FamilyStack) -> FamilyStack:
        weights = {name: change(value) if value.dim() > 2 else value for name, value in part.weights.items()}
        return replace(part, weights=weights)

    return NetworkStack(parts=tuple(changed(part) for part in stack.parts))
