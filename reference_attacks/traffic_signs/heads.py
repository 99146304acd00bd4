"""Fully connected layers on top of frozen convolutions: many stacks of them trained as one batched program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn

from ..training import one_cycle


@dataclass(frozen=True, kw_only=True)
class HeadPlan:
    """How fully connected layers are retrained from scratch: Adam under a one-cycle learning rate.

    ``hidden``: the neurons of each layer but the last.
    """

    steps: int
    hidden: tuple[int, ...]
    batch_size: int = 64
    peak_learning_rate: float = 1e-3


class Heads(nn.Module):
    """M independent stacks of fully connected layers with ReLU between them, as products of M matrices at once.

    They start as ``nn.Linear`` does. Of each seed there are ``copies``, which start alike: heads for networks that
    differ in nothing but the strength of the attack. The stacks are ordered by copy, then by seed.
    """

    def __init__(self, sizes: Sequence[int], *, copies: int, generators: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.copies, self.seeds = copies, len(generators)
        weights, biases = [], []
        for inputs, outputs in pairwise(sizes):
            drawn = torch.stack([2 * torch.rand(inputs + 1, outputs, generator=each) - 1 for each in generators])
            drawn = (drawn * inputs**-0.5).repeat(copies, 1, 1)
            weights.append(nn.Parameter(drawn[:, :-1].contiguous()))
            biases.append(nn.Parameter(drawn[:, -1:].contiguous()))
        self.weights, self.biases = nn.ParameterList(weights), nn.ParameterList(biases)

    def __len__(self) -> int:
        return self.copies * self.seeds

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Float ``(M, N, inputs)`` to ``(M, N, outputs)``."""
        last = len(self.weights) - 1
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            features = torch.baddbmm(bias, features, weight)
            if number < last:
                features = torch.relu(features)
        return features


def train_heads(heads: Heads, plan: HeadPlan, losses: Callable[[int], torch.Tensor]) -> None:
    """Train ``heads`` in place. ``losses(step)``: float ``(M,)``, the mean loss of each on its batch of that step.

    The losses are added up and Adam works element by element, so each head takes the steps that it would take alone.
    """
    optimizer = torch.optim.Adam(heads.parameters(), fused=True)
    schedule = one_cycle(optimizer, plan.peak_learning_rate, plan.steps)
    for step in range(plan.steps):
        loss = losses(step).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
