"""How a network is run on images with triggers: the fastest way that it allows, at equal results."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace

import torch

from ._channels_last import ChannelsLast, channels_last
from ._families import Family
from ._sums import LinearInParts, Sum

Forward = Callable[[torch.Tensor], torch.Tensor]

TRIAL_IMAGES = 3
LOGIT_TOLERANCE, GRADIENT_TOLERANCE = 1e-3, 1e-2


@dataclass(frozen=True, kw_only=True)
class Way:
    """How to run a network.

    ``channels_last``: whether its input and that of its convolutions lie so in memory. ``in_parts``: whether its first
    linear layers are computed of images and triggers apart.
    """

    channels_last: bool = True
    in_parts: bool = False


def logits_of(
    forward: Forward, images: torch.Tensor, parameters: torch.Tensor, family: Family, slot: int, way: Way
) -> torch.Tensor:
    """Float ``(A, N, K)`` for ``(N, C, H, W)`` images, each with the trigger of each of A arms' ``parameters``."""
    parts = family.parts(images, parameters, slot) if way.in_parts else None
    triggered = family.apply(images, parameters, slot) if parts is None else parts.batch()
    return logits_on(forward, triggered, way, parts)


def logits_on(forward: Forward, triggered: torch.Tensor, way: Way, parts: Sum | None = None) -> torch.Tensor:
    """Float ``(A, N, K)`` for ``(A, N, C, H, W)`` images; ``parts``: what they are the sum of, if that is known."""
    batch = triggered.flatten(0, 1)
    batch = channels_last(batch) if way.channels_last else batch.contiguous()
    with ExitStack() as stack:
        if way.channels_last:
            stack.enter_context(ChannelsLast())
        if parts is not None:
            stack.enter_context(LinearInParts(batch, parts))
        logits = forward(batch)
    return logits.float().view(*triggered.shape[:2], -1)


def fitting_way(forward: Forward, images: torch.Tensor, family: Family, start: torch.Tensor) -> Way:
    """The fastest way for this network, found by trying each on a few images with triggers.

    ``start``: parameters, float ``(A, ...)``. A network may fail on input that is not contiguous, by calling ``view``.
    That parts give what the whole gives is not assumed but seen: otherwise the network is run on the whole. Raises
    what the network raises where it fails in every way.
    """
    shown, arms = images[:TRIAL_IMAGES], torch.cat([start[:1], -start[:1]])
    way = Way()
    try:
        expected = _trial(forward, shown, arms, family, way)
    except Exception:  # the network is the user's own code
        way = Way(channels_last=False)
        expected = _trial(forward, shown, arms, family, way)
    if family.parts(shown, arms, 0) is None:
        return way
    faster = replace(way, in_parts=True)
    try:
        found = _trial(forward, shown, arms, family, faster)
    except Exception:  # as above
        return way
    return faster if _agree(found, expected) else way


def _trial(
    forward: Forward, images: torch.Tensor, parameters: torch.Tensor, family: Family, way: Way
) -> tuple[torch.Tensor, torch.Tensor]:
    """The logits of the first slot and the gradient of a mixture of them."""
    parameters = parameters.clone().requires_grad_()
    logits = logits_of(forward, images, parameters, family, 0, way)
    mixture = torch.linspace(-1, 1, logits.shape[-1], device=logits.device).cos()
    (gradient,) = torch.autograd.grad((logits.log_softmax(-1) * mixture).sum(), [parameters])
    return logits.detach(), gradient


def _agree(found: tuple[torch.Tensor, torch.Tensor], expected: tuple[torch.Tensor, torch.Tensor]) -> bool:
    return all(
        bool((own - other).abs().max() <= tolerance * other.abs().max())
        for own, other, tolerance in zip(found, expected, (LOGIT_TOLERANCE, GRADIENT_TOLERANCE), strict=True)
    )
