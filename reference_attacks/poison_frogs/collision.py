"""The batched forward-backward splitting behind ``craft``: many poisons at once, each with its own learning rate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

Features = Callable[[torch.Tensor], torch.Tensor]
"""Float32 ``(N, C, H, W)`` in [0, 1] to float32 ``(N, D)``, by a frozen network in evaluation mode."""

Precision = Literal["float32", "bfloat16"]
StepRule = Literal["descent", "polyak"]
STEP_RULES: tuple[StepRule, ...] = ("descent", "polyak")
DECAY = 0.5
GROWTH = 1.1
# Of Polyak's rule: after so many steps without a better image the steps are halved.
PATIENCE = 25
HALF_A_LEVEL = 0.5 / 255
TINY = 1e-20  # In place of a gradient's squared norm of 0.


@dataclass(frozen=True, kw_only=True)
class Similarity:
    """What keeps a poison like its base, for pixels in [0, 1]: β of equation 1, or an ℓ∞ ``bound``."""

    beta: float
    bound: float | None

    def backward(self, images: torch.Tensor, bases: torch.Tensor, rates: torch.Tensor) -> torch.Tensor:
        """The backward step at ``images``, ``rates`` of shape ``(N, 1, 1, 1)``; the result has valid pixels."""
        if self.bound is not None:
            images = torch.minimum(torch.maximum(images, bases - self.bound), bases + self.bound)
        else:
            weights = self.beta * rates
            images = torch.lerp(images, bases, weights / (1 + weights))
        return images.clamp_(0, 1)


def squared_norms(differences: torch.Tensor) -> torch.Tensor:
    """``(N,)`` of ``(N, ...)``: the squared Euclidean norm of each."""
    return torch.linalg.vector_norm(differences, dim=tuple(range(1, differences.dim()))).square()


def _chosen(which: torch.Tensor, some: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    """Images of ``some`` where ``which``, bool ``(N,)``, is true, else of ``others``."""
    if which.all():
        return some
    return torch.where(which.view(-1, 1, 1, 1), some, others)


def as_levels(images: torch.Tensor) -> torch.Tensor:
    """Uint8 images of float ones in [0, 1]."""
    return (images * 255).round().to(torch.uint8)


@dataclass(kw_only=True)
class Batch:
    """Poisons at work.

    For each of B poisons: its ``numbers``, its ``bases`` and ``wanted`` features, its best ``images`` so far with
    their ``objectives``, ``distances`` and ``gradients``, the ``candidates`` to be tried next, how far at most these
    move a pixel from where the step started (``moves``), the ``rates`` of the forward step, the number of steps
    ``tried``, and of those since the best image (``idle``).

    By the rule "descent" a step starts at the best image, and rates are λ. By "polyak" it starts where the last one
    ended, and rates are shares of Polyak's λ = ‖f(x) − f(t)‖² / ‖∇‖².
    """

    features: Features
    similarity: Similarity
    rule: StepRule
    precision: Precision
    first_rate: float
    numbers: torch.Tensor
    bases: torch.Tensor
    wanted: torch.Tensor
    images: torch.Tensor
    gradients: torch.Tensor
    candidates: torch.Tensor
    moves: torch.Tensor
    rates: torch.Tensor
    objectives: torch.Tensor
    distances: torch.Tensor
    tried: torch.Tensor
    idle: torch.Tensor

    @classmethod
    def empty(
        cls, features: Features, similarity: Similarity, rule: StepRule, precision: Precision, first_rate: float
    ) -> Batch:
        """A batch of no poisons."""
        nothing = {name: torch.empty(0) for name in STATE}
        nothing["numbers"] = nothing["tried"] = nothing["idle"] = torch.empty(0, dtype=torch.int64)
        return cls(
            features=features, similarity=similarity, rule=rule, precision=precision, first_rate=first_rate, **nothing
        )

    def __len__(self) -> int:
        return len(self.numbers)

    def join(self, numbers: torch.Tensor, bases: torch.Tensor, wanted: torch.Tensor) -> None:
        """Let poisons in, which start as their bases."""
        if not len(numbers):
            return
        device = bases.device
        fresh = {
            "numbers": numbers,
            "bases": bases,
            "wanted": wanted,
            "images": bases,
            "gradients": torch.zeros_like(bases),
            "candidates": bases,
            "moves": torch.full((len(numbers),), torch.inf, device=device),
            "rates": torch.full((len(numbers),), self.first_rate, device=device),
            "objectives": torch.full((len(numbers),), torch.inf, device=device),
            "distances": torch.full((len(numbers),), torch.inf, device=device),
            "tried": torch.full((len(numbers),), -1, device=device),  # The first evaluation is of the base itself.
            "idle": torch.zeros(len(numbers), dtype=torch.int64, device=device),
        }
        for name in STATE:
            setattr(self, name, torch.cat([getattr(self, name), fresh[name]]) if len(self) else fresh[name])

    def step(self) -> None:
        """Evaluate the candidates, keep those that lower their objective, and make the next ones."""
        squares, gradients = self._evaluated(self.candidates)
        steepness = squared_norms(gradients)
        objectives = squares
        if self.similarity.beta:
            objectives = squares + self.similarity.beta * squared_norms(self.candidates - self.bases)
        # A comparison with NaN is false, so a step into it is taken back like any other bad one.
        better = (objectives < self.objectives) & steepness.isfinite()
        if not (better | (self.tried >= 0)).all():
            raise ValueError("The network's features of some base, or their gradient, are not finite.")
        self.images = _chosen(better, self.candidates, self.images)
        self.objectives = torch.where(better, objectives, self.objectives)
        self.distances = torch.where(better, squares.sqrt(), self.distances)
        if self.rule == "descent":
            self._descend(better, gradients)
        else:
            self._step_by_polyak(better, squares, gradients, steepness)
        self.tried += 1

    def _descend(self, better: torch.Tensor, gradients: torch.Tensor) -> None:
        """Make the next candidates from the best images."""
        self.gradients = _chosen(better, gradients, self.gradients)
        self.rates = torch.where(self.tried < 0, self.rates, self.rates * torch.where(better, GROWTH, DECAY))
        self.candidates = self._moved(self.images, self.gradients, self.rates)
        self.moves = (self.candidates - self.images).abs().flatten(1).amax(1)

    def _step_by_polyak(
        self, better: torch.Tensor, squares: torch.Tensor, gradients: torch.Tensor, steepness: torch.Tensor
    ) -> None:
        """Make the next candidates from the present ones; where these lead nowhere, go back to the best images."""
        self.idle = torch.where(better, 0, self.idle + 1)
        stuck = ~steepness.isfinite() | (self.idle >= PATIENCE)
        self.rates = torch.where(stuck, self.rates * DECAY, self.rates)
        self.idle = torch.where(stuck, 0, self.idle)
        rates = self.rates * squares / steepness.clamp(min=TINY)
        self.candidates = self._moved(self.candidates, gradients, rates)
        # Of the forward step the Euclidean length, which is no less than the largest move of a pixel.
        self.moves = rates * (steepness.sqrt() + self.similarity.beta)
        if stuck.any():
            self.candidates = _chosen(stuck, self.images, self.candidates)
            self.moves = torch.where(stuck, torch.inf, self.moves)

    def _moved(self, starts: torch.Tensor, gradients: torch.Tensor, rates: torch.Tensor) -> torch.Tensor:
        rates = rates.view(-1, 1, 1, 1)
        return self.similarity.backward(torch.addcmul(starts, gradients, rates, value=-1), self.bases, rates)

    def _evaluated(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """‖f(x) − f(t)‖² and its gradient."""
        variables = images.detach().requires_grad_()
        reduced = self.precision == "bfloat16"
        with torch.enable_grad():
            with torch.autocast(images.device.type, torch.bfloat16, enabled=reduced):
                found = self.features(variables)
            squares = squared_norms(found.float() - self.wanted)
            (gradients,) = torch.autograd.grad(squares.sum(), [variables])
        return squares.detach(), gradients

    @torch.no_grad()
    def finished(self, iterations: int, stop_distance: float | None) -> torch.Tensor:
        """Bool ``(B,)``: which poisons are near enough as uint8 images, or cannot get much further."""
        finished = (self.tried >= iterations) | ((iterations - self.tried) * self.moves < HALF_A_LEVEL)
        near = (self.distances < (stop_distance or 0)).nonzero()[:, 0]
        if len(near):
            rounded = as_levels(self.images[near]).float().div_(255)
            squares = squared_norms(self.features(rounded) - self.wanted[near])
            finished[near] |= squares.sqrt() < (stop_distance or 0)
        return finished

    def leave(self, finished: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Let ``finished`` poisons go: their numbers, uint8 images, and steps tried."""
        result = self.numbers[finished], as_levels(self.images[finished]), self.tried[finished]
        if finished.any():
            for name in STATE:
                setattr(self, name, getattr(self, name)[~finished])
        return result


STATE = (
    "numbers",
    "bases",
    "wanted",
    "images",
    "gradients",
    "candidates",
    "moves",
    "rates",
    "objectives",
    "distances",
    "tried",
    "idle",
)
