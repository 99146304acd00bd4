"""What is added to the poisons' images, and its steps: Adam and the projection onto what is allowed."""

from __future__ import annotations

import torch

from ..training import as_input
from .colours import Recolouring, roughness
from .settings import LEVELS, CraftingPlan


class Perturbation:
    """The perturbations of P images, which start at random within the bound, as in the published code.

    ``bases``: uint8 ``(P, C, H, W)``. All is float32 on their device. The additive part is projected onto the ε-ball
    and onto what leaves valid pixels; where colours change, too, the latter is done by clipping the image.
    """

    def __init__(self, bases: torch.Tensor, plan: CraftingPlan, generator: torch.Generator) -> None:
        self._bases = as_input(bases).contiguous()
        self._plan = plan
        start = torch.rand(bases.shape, generator=generator) * 2 - 1
        self._added = start.to(bases.device).mul_(plan.whole_bound)
        self._recolouring = Recolouring(self._bases, plan.colour) if plan.colour else None
        self._grids = self._recolouring.unchanged() if self._recolouring else None
        self._project()
        self._adam = torch.optim.Adam(self._parts)

    @property
    def _parts(self) -> list[torch.Tensor]:
        return [self._added] if self._grids is None else [self._added, self._grids]

    def images(self) -> torch.Tensor:
        """Float ``(P, C, H, W)`` in [0, 1]: the poisons as they are now, with a graph to the perturbations."""
        for part in self._parts:
            part.requires_grad_()
        if self._recolouring is None or self._grids is None:
            return self._bases + self._added
        return (self._recolouring(self._grids) + self._added).clamp(0, 1)

    def step(self, images: torch.Tensor, gradient: torch.Tensor, number: int) -> None:
        """Craft step ``number``, from 0: ``gradient``, of the shape of ``images``, which came from ``images()``."""
        for group in self._adam.param_groups:
            group["lr"] = self._plan.craft_rate_at(number)
        self._adam.zero_grad()
        images.backward(gradient)
        if self._grids is not None:
            (self._plan.smoothness * roughness(self._grids)).backward()
        self._adam.step()
        self._project()

    def rounded(self) -> torch.Tensor:
        """Uint8 ``(P, C, H, W)``. The additive part is still within the bound, which is one of whole levels."""
        with torch.no_grad():
            return self.images().mul(LEVELS).round().to(torch.uint8)

    def state(self) -> dict[str, torch.Tensor]:
        """Everything that the next steps depend on, by name."""
        names = ("added", "colours")[: len(self._parts)]
        kept = {name: part.detach() for name, part in zip(names, self._parts, strict=True)}
        for name, part in zip(names, self._parts, strict=True):
            for key, value in self._adam.state[part].items():
                kept[f"{name}/{key}"] = value
        return kept

    def restore(self, kept: dict[str, torch.Tensor]) -> None:
        """Go on from what ``state`` returned."""
        names = ("added", "colours")[: len(self._parts)]
        with torch.no_grad():
            for name, part in zip(names, self._parts, strict=True):
                part.copy_(kept[name])
                moments = {key: kept[f"{name}/{key}"] for key in ("step", "exp_avg", "exp_avg_sq")}
                self._adam.state[part] = {
                    key: value.clone() if key == "step" else value.to(part.device, copy=True)
                    for key, value in moments.items()
                }

    @torch.no_grad()
    def _project(self) -> None:
        bound = self._plan.whole_bound
        self._added.clamp_(-bound, bound)
        if self._grids is None:
            torch.minimum(self._added, 1 - self._bases, out=self._added.data)
            torch.maximum(self._added, -self._bases, out=self._added.data)
        else:
            self._grids.clamp_(-self._plan.colour, self._plan.colour)


def random_perturbation(bases: torch.Tensor, bound: float, generator: torch.Generator) -> torch.Tensor:
    """Uint8 ``(P, C, H, W)``: ``bases`` with every value moved up or down by ``bound``, at random, and clipped.

    The largest perturbation that is allowed, without aim: the baseline of a crafted one.
    """
    levels = CraftingPlan(bound=bound).whole_bound * LEVELS
    signs = torch.randint(2, bases.shape, generator=generator).mul_(2).sub_(1).to(bases.device)
    return (bases + signs * round(levels)).clamp_(0, LEVELS).to(torch.uint8)
