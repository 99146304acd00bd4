"""Neural Cleanse as its authors published it (Wang et al. 2019, §IV and V; ``visualizer.py`` of bolunwang/backdoor).

Settings are those of the authors' script for traffic signs. Class after class: a mask and a pattern are sought that
turn every image into the class; the mask's ℓ1 norm is paid for at a cost that follows the success.

Deviations from the authors' code:

- The loss is the cross-entropy of the paper's eq. 3. The authors' code gives Keras' ``categorical_crossentropy`` its
  two arguments in the wrong order, so that what it minimises is ln(10^7) · (1 - probability of the class);
  ``loss="swapped"`` does that too.
- Norms are of the masks themselves. The authors read them back from 8-bit PNG files.
- Norms of triggers that never reached the success asked for stay out of the anomaly index. The authors' second script
  takes every mask that it finds; ``index_of_all`` does that too.
- Each class has random numbers of its own, so that the order of classes does not matter. The authors' share one stream.
- Images are in [0, 1], not in [0, 255]; torch's Adam adds its epsilon after the correction of the bias, Keras' before.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch.nn.functional import cross_entropy

from .anomaly import flagged, smallest_index
from .cost_schedule import CostSchedule, EarlyStop

Forward = Callable[[torch.Tensor], torch.Tensor]
Loss = Literal["cross-entropy", "swapped"]
EPSILON = 1e-7  # Keras'


@dataclass(frozen=True, kw_only=True)
class CleansePlan:
    """The settings; the defaults are the published ones.

    ``steps`` at most for each class, each of ``mini_batches`` batches of ``batch`` images. ``success``: the share of a
    step's images that must be turned. ``initial_cost``, ``multiplier``, ``patience``: see ``CostSchedule``. ``stop_at``
    and ``stop_patience``: see ``EarlyStop``. Raises ValueError for numbers below one.
    """

    steps: int = 1000
    mini_batches: int = 31
    batch: int = 32
    learning_rate: float = 0.1
    success: float = 0.99
    initial_cost: float = 1e-3
    multiplier: float = 2.0
    patience: int = 5
    stop_at: float = 1.0
    stop_patience: int = 25
    loss: Loss = "cross-entropy"

    def __post_init__(self) -> None:
        if min(self.steps, self.mini_batches, self.batch, self.patience) < 1:
            raise ValueError("Neural Cleanse needs at least one step, one mini-batch, one image in it and a patience.")


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassTrigger:
    """The trigger of one class.

    ``mask``: float ``(H, W)`` in [0, 1]. ``pattern``: float ``(C, H, W)`` in [0, 1]. ``norm``: the mask's ℓ1 norm, in
    pixels. ``success``: the share of images that were turned in the step that the trigger is of. ``succeeded``: whether
    that is enough; otherwise the trigger is the last step's. ``image_gradients``: images that went forwards and
    backwards. ``seconds`` is left out of equality.
    """

    target: int
    norm: float
    mask: torch.Tensor
    pattern: torch.Tensor
    success: float
    succeeded: bool
    steps: int
    image_gradients: int
    seconds: float

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ClassTrigger):
            return NotImplemented
        same = ("target", "norm", "success", "succeeded", "steps", "image_gradients")
        return (
            all(getattr(self, name) == getattr(other, name) for name in same)
            and torch.equal(self.mask, other.mask)
            and torch.equal(self.pattern, other.pattern)
        )

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, kw_only=True)
class Cleansing:
    """The triggers of a network, in the order of their classes."""

    triggers: tuple[ClassTrigger, ...]

    @property
    def norms(self) -> list[float]:
        """Of the triggers that succeeded."""
        return [trigger.norm for trigger in self.triggers if trigger.succeeded]

    @property
    def anomaly_index(self) -> float | None:
        """Of the smallest norm among the triggers that succeeded; None where that cannot be had."""
        return smallest_index(self.norms)

    @property
    def index_of_all(self) -> float | None:
        """Of the smallest norm of all triggers, those that failed among them, as in the authors' second script."""
        return smallest_index([trigger.norm for trigger in self.triggers])

    @property
    def smallest_norm(self) -> float:
        """Of the triggers that succeeded, in pixels; the image's area where none did."""
        return min([trigger.mask.numel() for trigger in self.triggers] + self.norms)

    @property
    def flagged(self) -> list[int]:
        """The classes that are called targets of a backdoor."""
        succeeded = [trigger.target for trigger in self.triggers if trigger.succeeded]
        return [target for target, is_target in zip(succeeded, flagged(self.norms), strict=True) if is_target]


def neural_cleanse(
    forward: Forward,
    images: torch.Tensor,
    classes: int,
    plan: CleansePlan,
    generator: torch.Generator,
    *,
    order: Sequence[int] | None = None,
) -> Cleansing:
    """A trigger for each class.

    ``forward`` gives logits, float ``(N, classes)``, of images in [0, 1]. ``images``: float ``(N, C, H, W)`` in [0, 1],
    of any class, those of the target too. ``order``: of the classes, which changes nothing; default: ascending. Raises
    ValueError without images.
    """
    if not len(images):
        raise ValueError("Neural Cleanse needs at least one image.")
    # Drawn for all classes at once, so that what one of them uses up changes nothing for the next.
    seeds = torch.randint(2**62, (classes,), generator=generator).tolist()
    found = [
        _reverse(forward, images, target, plan, torch.Generator().manual_seed(seeds[target]))
        for target in (range(classes) if order is None else order)
    ]
    return Cleansing(triggers=tuple(sorted(found, key=lambda trigger: trigger.target)))


def target_loss(logits: torch.Tensor, target: int, loss: Loss) -> torch.Tensor:
    """The mean loss of ``logits``, float ``(N, classes)``, none of which need be a probability."""
    if loss == "cross-entropy":
        return cross_entropy(logits, torch.full((len(logits),), target, device=logits.device))
    return -math.log(EPSILON) * (1 - logits.softmax(1)[:, target]).mean()


def _reverse(
    forward: Forward, images: torch.Tensor, target: int, plan: CleansePlan, generator: torch.Generator
) -> ClassTrigger:
    started = time.perf_counter()
    search = _Search(images, plan, generator)
    schedule = CostSchedule(initial=plan.initial_cost, multiplier=plan.multiplier, patience=plan.patience)
    early_stop = EarlyStop(threshold=plan.stop_at, patience=plan.stop_patience)
    best, best_norm, steps, gradients = None, math.inf, 0, 0
    for _ in range(plan.steps):
        success, norm, seen = search.step(forward, target, schedule.cost)
        steps, gradients = steps + 1, gradients + seen
        enough = success >= plan.success
        if enough and norm < best_norm:
            best, best_norm = (*search.trigger(), success), norm
        if early_stop.reached(best_norm, settled=schedule.settled):
            break
        schedule.update(success=enough)
    mask, pattern, reached = best or (*search.trigger(), success)
    return ClassTrigger(
        target=target,
        norm=float(mask.abs().sum()),
        mask=mask,
        pattern=pattern,
        success=reached,
        succeeded=best is not None,
        steps=steps,
        image_gradients=gradients,
        seconds=time.perf_counter() - started,
    )


class _Search:
    """Mask and pattern of one class, from fresh uniform values, with an optimizer of their own."""

    def __init__(self, images: torch.Tensor, plan: CleansePlan, generator: torch.Generator) -> None:
        self._plan = plan
        self._batches = _batches(images, plan.batch, generator)
        # Drawn in double precision, in which no value becomes ±1 and so infinite.
        shapes = ((1, *images.shape[2:]), tuple(images.shape[1:]))
        uniform = [torch.rand(shape, generator=generator, dtype=torch.float64) for shape in shapes]
        self._mask, self._pattern = (
            torch.atanh((values - 0.5) * (2 - EPSILON)).float().to(images.device).requires_grad_() for values in uniform
        )
        self._optimizer = torch.optim.Adam(
            [self._pattern, self._mask], lr=plan.learning_rate, betas=(0.5, 0.9), eps=EPSILON
        )

    def step(self, forward: Forward, target: int, cost: float) -> tuple[float, float, int]:
        """One step of several mini-batches: its success, the mask's mean norm and the number of images."""
        turned, seen, norms = 0, 0, 0.0
        for _ in range(self._plan.mini_batches):
            batch = next(self._batches)
            mask, pattern = _in_range(self._mask), _in_range(self._pattern)
            logits = forward(batch * (1 - mask) + pattern * mask)
            norm = mask.abs().sum()
            objective = target_loss(logits, target, self._plan.loss) + cost * norm
            self._mask.grad, self._pattern.grad = torch.autograd.grad(objective, [self._mask, self._pattern])
            self._optimizer.step()
            turned += int((logits.argmax(1) == target).sum())
            norms += float(norm.detach())
            seen += len(batch)
        return turned / seen, norms / self._plan.mini_batches, seen

    def trigger(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mask ``(H, W)`` and pattern ``(C, H, W)`` as they are now, on the CPU."""
        return _in_range(self._mask).detach()[0].cpu(), _in_range(self._pattern).detach().cpu()


def _in_range(values: torch.Tensor) -> torch.Tensor:
    return torch.tanh(values) / (2 - EPSILON) + 0.5


def _batches(images: torch.Tensor, size: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """Batches without end: pass after pass in random orders, each pass's last batch as small as it comes."""
    while True:
        order = torch.randperm(len(images), generator=generator).to(images.device)
        for chosen in order.split(size):
            yield images[chosen]
