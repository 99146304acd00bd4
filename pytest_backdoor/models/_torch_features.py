"""What the last linear layer of a torch network takes, caught by hooks while the network runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import NotAssessableError

if TYPE_CHECKING:
    import torch

REMEDY = "Give the network a torch.nn.Linear as its last layer, with one output for each class, or export it to ONNX."


@dataclass
class LastLinear:
    """The ``torch.nn.Linear`` that ran last, and what it took; None before any ran."""

    outputs: int | None = None
    taken: torch.Tensor | None = None

    def features(self, classes: int, display: str) -> torch.Tensor:
        """Float ``(N, ...)``. Raises NotAssessableError if no linear layer ran, or if the last gave no scores."""
        if self.taken is None or self.outputs != classes:
            how = "has no linear layer" if self.taken is None else f"has a last linear layer of {self.outputs} outputs"
            raise NotAssessableError(
                f"{display} {how}, not one of {classes} for its classes, so its images have no features.",
                remedy=REMEDY,
            )
        return self.taken


@contextmanager
def watch_last_linear(network: torch.nn.Module) -> Iterator[LastLinear]:
    """Within the block, every run of ``network`` leaves in the given object what its last linear layer took."""
    import torch

    last = LastLinear()

    def remember(module: torch.nn.Module, taken: tuple[Any, ...]) -> None:
        last.outputs, last.taken = getattr(module, "out_features", None), taken[0].detach()

    handles = [
        module.register_forward_pre_hook(remember)
        for module in network.modules()
        if isinstance(module, torch.nn.Linear)
    ]
    try:
        yield last
    finally:
        for handle in handles:
            handle.remove()
