"""Weights of victims, as a folder keeps them epoch by epoch, turned into networks again."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy

import torch
from torch import nn

from .stacks import Stack


def path_of(template: nn.Module, kept: Mapping[str, torch.Tensor]) -> Stack:
    """A victim's networks at the start and after each of E epochs, a stack of E + 1.

    ``template``: a network of its architecture. ``kept``: weights and buffers by name, each ``(E + 1, ...)``.
    """
    return Stack(
        weights={name: kept[name].float() for name, _ in template.named_parameters()},
        buffers={name: kept[name] for name, _ in template.named_buffers()},
    )


def last_network(template: nn.Module, kept: Mapping[str, torch.Tensor]) -> nn.Module:
    """The trained victim, in evaluation mode; the rest as for ``path_of``."""
    network = deepcopy(template)
    network.load_state_dict({name: value[-1] for name, value in kept.items()})
    return network.eval().requires_grad_(False)


def flattened(stack: Stack) -> torch.Tensor:
    """Float ``(G, D)``: all weights of each network of a stack, without its buffers."""
    return torch.cat([value.detach().flatten(1) for value in stack.weights.values()], dim=1)
