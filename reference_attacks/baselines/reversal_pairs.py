"""The attack-based detection that Universal Litmus Patterns compares with (§3.4.2, "Baseline").

For every pair of a source and a target class one patch of known size is optimised that turns clean images of the source
into the target. There is no mask and no price on its norm. The loss of the most successful pair is the score: low where
a backdoor makes the attack easy.

What the paper leaves open, and what is done here: the optimizer (Adam; pixels are tanh / 2 + 1/2 of what it moves,
from uniform values, as in Neural Cleanse); its length ("several epochs ... on all images from a class"); where the
patch lies (for each image at a place drawn anew in each batch among those of the task, which is the paper's threat
model, §4.1 and 4.3); and on what the loss is taken (after the last epoch, on all images of the source, the patch at
places drawn once for all targets of that source).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy

from ..overlays import Place, patch_offsets

Forward = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class PairsPlan:
    """The settings. ``size``: of the patch, in pixels; 5 in the paper. ``place``: where it lies.

    ``epochs`` over the source's images in batches of ``batch`` images. ``evaluations``: how often each image is judged
    at the end, each time at another place. ``together``: about how many images go through the network at once, of one
    or more targets; it changes nothing but the speed. Raises ValueError for numbers below one.
    """

    place: Place
    size: int = 5
    epochs: int = 50
    batch: int = 64
    learning_rate: float = 0.1
    evaluations: int = 4
    together: int = 512

    def __post_init__(self) -> None:
        if min(self.size, self.epochs, self.batch, self.evaluations, self.together) < 1:
            raise ValueError(
                "Reversal of pairs needs at least one pixel, one epoch, one image in a batch and one evaluation."
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class PairAttacks:
    """What became of the attacks on all pairs; rows are sources, columns targets, and the diagonal is NaN.

    ``losses``: float ``(classes, classes)``, the mean cross-entropy of the source's images to the target. ``success``:
    float ``(classes, classes)`` in [0, 1], the share of them that the patch turned. ``patches``: float ``(classes,
    classes, C, size, size)`` in [0, 1], NaN on the diagonal. ``image_gradients``: images that went forwards and
    backwards.
    """

    losses: torch.Tensor
    success: torch.Tensor
    patches: torch.Tensor
    image_gradients: int
    seconds: float

    @property
    def pair(self) -> tuple[int, int]:
        """Source and target of the most successful attack: the one with the least loss."""
        return divmod(int(self._without_nan.argmin()), len(self.losses))

    @property
    def loss(self) -> float:
        """The paper's score for cleanness: the loss of the most successful pair; infinite where all are NaN."""
        return float(self._without_nan.min())

    @property
    def _without_nan(self) -> torch.Tensor:
        # An attack whose loss is NaN did not succeed.
        return torch.where(self.losses.isnan(), torch.inf, self.losses)

    @property
    def score(self) -> float:
        """Its negative: higher is more suspicious."""
        return -self.loss


def reverse_pairs(
    forward: Forward,
    images: torch.Tensor,
    labels: torch.Tensor,
    classes: int,
    plan: PairsPlan,
    generator: torch.Generator,
) -> PairAttacks:
    """Attack all pairs of classes.

    ``forward`` gives logits, float ``(N, classes)``, of images in [0, 1]. ``images``: float ``(N, C, H, W)`` in [0, 1],
    clean, and their ``labels``, int64 ``(N,)``. Raises ValueError if a class has no image: its pairs would go unseen.
    """
    missing = sorted(set(range(classes)) - set(labels.tolist()))
    if missing:
        raise ValueError(f"Every class needs an image to attack from; there is none of {', '.join(map(str, missing))}.")
    started = time.perf_counter()
    losses = torch.full((classes, classes), torch.nan)
    success = losses.clone()
    patches = torch.full((classes, classes, images.shape[1], plan.size, plan.size), torch.nan)
    gradients = 0
    # Drawn for all sources at once, so that what one of them uses up changes nothing for the next.
    seeds = torch.randint(2**62, (classes,), generator=generator).tolist()
    for source in range(classes):
        draws = _Draws(images[labels == source], plan, torch.Generator().manual_seed(seeds[source]))
        others = torch.tensor([target for target in range(classes) if target != source])
        for targets in others.split(max(1, plan.together // draws.largest)):
            found, seen = _optimised(forward, draws, targets.to(images.device), plan)
            losses[source, targets], success[source, targets] = _judged(forward, draws, targets, found)
            patches[source, targets] = found.cpu()
            gradients += seen
    return PairAttacks(
        losses=losses,
        success=success,
        patches=patches,
        image_gradients=gradients,
        seconds=time.perf_counter() - started,
    )


class _Draws:
    """Everything random about the attacks from one source, the same for all targets.

    ``start``: float ``(C, size, size)``, what the optimizer moves.
    """

    def __init__(self, images: torch.Tensor, plan: PairsPlan, generator: torch.Generator) -> None:
        channels, height, width = images.shape[1:]
        self.images = images
        self.largest = min(len(images), plan.batch)
        uniform = torch.rand(channels, plan.size, plan.size, generator=generator, dtype=torch.float64)
        self.start = torch.atanh(2 * uniform - 1).clamp(-8, 8).float()
        offsets = torch.tensor(patch_offsets(plan.size, (channels, height, width), plan.place))
        orders = [torch.randperm(len(images), generator=generator).split(plan.batch) for _ in range(plan.epochs)]
        self._training = [chosen for order in orders for chosen in order]
        self._training_places = [_drawn(offsets, len(chosen), generator) for chosen in self._training]
        self._judging_places = [_drawn(offsets, len(images), generator) for _ in range(plan.evaluations)]

    def training(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Images ``(n, C, H, W)`` and the offsets ``(n, 2)`` of the patch in each, batch after batch."""
        for chosen, places in zip(self._training, self._training_places, strict=True):
            yield self.images[chosen.to(self.images.device)], places

    def judging(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """All images, several times, with the offsets of the patch in each, in batches of at most ``largest``."""
        for places in self._judging_places:
            yield from zip(self.images.split(self.largest), places.split(self.largest), strict=True)


def _drawn(offsets: torch.Tensor, count: int, generator: torch.Generator) -> torch.Tensor:
    return offsets[torch.randint(len(offsets), (count,), generator=generator)]


def _optimised(forward: Forward, draws: _Draws, targets: torch.Tensor, plan: PairsPlan) -> tuple[torch.Tensor, int]:
    """The patches, float ``(T, C, size, size)`` in [0, 1], and how many images went through for them."""
    values = draws.start.to(targets.device).repeat(len(targets), 1, 1, 1).requires_grad_()
    optimizer = torch.optim.Adam([values], lr=plan.learning_rate, betas=(0.5, 0.9))
    seen = 0
    for images, offsets in draws.training():
        losses, _ = _losses(forward, pasted(images, torch.tanh(values) / 2 + 0.5, offsets), targets)
        # The sum over targets, so that none of them changes another's gradient.
        (values.grad,) = torch.autograd.grad(losses.mean(1).sum(), [values])
        optimizer.step()
        seen += losses.numel()
    return (torch.tanh(values) / 2 + 0.5).detach(), seen


@torch.no_grad()
def _judged(
    forward: Forward, draws: _Draws, targets: torch.Tensor, patches: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean loss and the success of each target, both float ``(T,)``."""
    parts = [
        _losses(forward, pasted(images, patches, offsets), targets.to(patches.device))
        for images, offsets in draws.judging()
    ]
    losses, turned = (torch.cat(values, 1) for values in zip(*parts, strict=True))
    return losses.mean(1).cpu(), turned.float().mean(1).cpu()


def _losses(forward: Forward, triggered: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cross-entropy to the target and whether it is predicted, both ``(T, n)``, of images ``(T, n, C, H, W)``."""
    count, images = triggered.shape[:2]
    wanted = targets[:, None].expand(count, images)
    logits = forward(triggered.flatten(0, 1)).float()
    losses = cross_entropy(logits, wanted.reshape(-1), reduction="none").view(count, images)
    return losses, logits.argmax(1).view(count, images) == wanted


def pasted(images: torch.Tensor, patches: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """Images ``(T, n, C, H, W)``: each of ``images`` ``(n, C, H, W)`` with each of ``patches`` ``(T, C, h, w)``.

    ``offsets``: int64 ``(n, 2)``, row and column of the patch's upper left pixel in each image.
    """
    count, (height, width) = len(images), patches.shape[-2:]
    each = torch.arange(count)[:, None, None]
    rows = (offsets[:, :1] + torch.arange(height))[:, :, None]
    columns = (offsets[:, 1:] + torch.arange(width))[:, None, :]
    triggered = images.expand(len(patches), *images.shape).clone()
    # Indices apart from each other: their axes come first, and the patches' are moved to fit.
    triggered[:, each, :, rows, columns] = patches.permute(2, 3, 0, 1).expand(count, -1, -1, -1, -1)
    return triggered
