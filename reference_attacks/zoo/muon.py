"""Muon, an optimiser that needs fewer steps on convolutions, for many networks at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch

MOMENTUM = 0.95
ITERATIONS = 4
# Of the quintic iteration that moves all singular values close to 1 in few steps (Jordan et al. 2024).
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.Optimizer):
    """Momentum whose direction for each kernel is orthogonalised: all singular values become about 1 (Jordan 2024).

    ``parameters``: convolution kernels ``(outputs, inputs, h, w)``, or those of G networks stacked as ``(G, outputs,
    inputs, h, w)``, each treated as one matrix of ``outputs`` rows. ``lr``: the size of a step, in units of a matrix
    whose singular values are 1. ``weight_decay``: decoupled, as AdamW's.

    ``torch.optim.Muon`` is the same for matrices alone; it takes neither kernels nor stacks.
    """

    def __init__(self, parameters: Iterable[torch.Tensor], *, lr: float, weight_decay: float) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move every parameter that has a gradient."""
        assert closure is None
        for group in self.param_groups:
            for parameter in group["params"]:
                self._move(parameter, group["lr"], group["weight_decay"])

    def _move(self, parameter: torch.Tensor, rate: float, decay: float) -> None:
        gradient = parameter.grad
        assert gradient is not None
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(gradient)
        average = state["momentum"].lerp_(gradient, 1 - MOMENTUM)
        # Nesterov: a look ahead along the average.
        matrices = gradient.lerp(average, MOMENTUM).flatten(-3)
        rows, columns = matrices.shape[-2:]
        direction = orthogonalised(matrices).mul_(max(1.0, rows / columns) ** 0.5)
        parameter.mul_(1 - rate * decay).add_(direction.view_as(parameter), alpha=-rate)


def orthogonalised(matrices: torch.Tensor) -> torch.Tensor:
    """Float ``(..., rows, columns)``: each matrix with its singular vectors kept and its singular values near 1.

    Newton-Schulz iteration in bfloat16, which is exact enough for a direction.
    """
    first, third, fifth = COEFFICIENTS
    wide = matrices if matrices.shape[-2] <= matrices.shape[-1] else matrices.mT
    wide = (wide / (wide.norm(dim=(-2, -1), keepdim=True) + 1e-7)).bfloat16()
    for _ in range(ITERATIONS):
        square = wide @ wide.mT
        wide = first * wide + (third * square + fifth * square @ square) @ wide
    found = wide if matrices.shape[-2] <= matrices.shape[-1] else wide.mT
    return found.to(matrices.dtype)
