"""Convolutions with their channels last in memory, for the sake of the pooling layers that follow them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


def channels_last(images: torch.Tensor) -> torch.Tensor:
    """The same ``(N, C, H, W)`` values with the channels last in memory, also of a single channel.

    A single channel lies in memory as both formats have it; torch tells them apart by the strides, and what follows
    takes the format over.
    """
    images = images.contiguous(memory_format=torch.channels_last)
    if images.shape[1] != 1 or images.stride(1) == 1:
        return images
    return images.contiguous().view(len(images), *images.shape[2:], 1).permute(0, 3, 1, 2)


class ChannelsLast(TorchFunctionMode):
    """While it is entered, ``conv2d`` has its input with the channels last, and therefore its output.

    Pooling is several times faster so on a CPU: it runs over channels and not over windows of a few pixels. Networks
    lose the format on their way, above all where they sample a grid.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Called in place of every torch function; see torch.overrides."""
        if func is torch.conv2d and args and isinstance(args[0], torch.Tensor) and args[0].dim() == 4:
            args = (channels_last(args[0]), *args[1:])
        return func(*args, **(kwargs or {}))
