"""The search: how far can a trigger of one family drive a network, for every target class at once?"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch

from ...errors import NotAssessableError
from ._families import Family
from ._images import BATCH, ReversalImages
from ._queries import AGNOSTIC as AGNOSTIC
from ._ways import Forward as Forward
from ._ways import Way, fitting_way, logits_of, logits_on

LEARNING_RATE = 0.5
BETAS = (0.5, 0.9)
CONFIDENT = 1e-6
SOURCE_TEMPERATURE = 0.3
WHOLE = Way()


@dataclass(frozen=True, kw_only=True)
class Searched:
    """What was found in one family; an arm for each of T targets, and the target-agnostic one last.

    ``targets``: int64 ``(T + 1,)``, the last AGNOSTIC. ``margins``: float ``(slots, T + 1)``, the mean over held-out
    images of the target's logit above the highest other one (agnostic: of the highest other one above the true
    class's), negative where images mostly stay. Images of the target class do not count. ``success``: float
    ``(slots, T + 1)``, the share of held-out images that turned. ``parameters``: float ``(slots, T + 1, ...)``, the
    family's. ``moved``: whether there was a gradient to follow in any slot.
    """

    family: Family
    targets: torch.Tensor
    margins: torch.Tensor
    success: torch.Tensor
    parameters: torch.Tensor
    moved: bool


def search(
    forward: Forward,
    images: ReversalImages,
    targets: torch.Tensor,
    family: Family,
    generator: torch.Generator,
    *,
    workers: int = 1,
) -> Searched:
    """Descend for each of ``targets``, int64 ``(T,)``, and for none in particular, in each slot of ``family``.

    ``forward``: images ``(N, C, H, W)`` in [0, 1] to logits ``(N, K)`` of unit scale. Source: Universal Litmus Patterns
    §3.4.2, a universal patch for each target by gradient descent on the cross-entropy, on images of every other class.
    Deviations: all targets are one batch; few steps of Adam suffice, since a planted trigger shows within three; what
    counts is the margin on held-out images; the target-agnostic arm, which finds all-to-all backdoors, is not in the
    paper. ``workers``: how many threads search slots, each for itself, so that their number changes no result. Raises
    NotAssessableError if the gradients are no guide.
    """
    arms = torch.cat([targets, targets.new_tensor([AGNOSTIC])])
    start = family.start(len(arms), generator).to(targets.device)
    images = images.first(family.optimised, family.held_out)
    # Once for all slots, so that the number of workers has no say in it.
    way = fitting_way(forward, images.images, family, start)
    first = image_gradient(forward, images, arms, family, way)

    def in_slot(slot: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        found = descend(forward, images, arms, family, slot, start, first, way=way)
        return *_held_out(forward, images, arms, family, slot, found, way=way), found

    with ThreadPoolExecutor(workers) as pool:
        rows = list(pool.map(in_slot, range(len(family.labels))))
    margins, success, parameters = (torch.stack(parts) for parts in zip(*rows, strict=True))
    return Searched(
        family=family,
        targets=arms,
        margins=margins,
        success=success,
        parameters=parameters,
        # Adam moves wherever a gradient was not zero. That of one window may be, where a network looks elsewhere.
        moved=not torch.equal(parameters, start.expand_as(parameters)),
    )


def descend(
    forward: Forward,
    images: ReversalImages,
    targets: torch.Tensor,
    family: Family,
    slot: int,
    start: torch.Tensor,
    first: torch.Tensor | None = None,
    *,
    way: Way = WHOLE,
) -> torch.Tensor:
    """The family's parameters after its steps of Adam from ``start``, float ``(A, ...)``; an arm for each target.

    ``first``: see ``image_gradient``; the first step then costs nothing. ``way``: how the network is run; see
    ``fitting_way``.
    """
    parameters = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([parameters], lr=LEARNING_RATE, betas=BETAS, foreach=True)
    for step in range(family.steps):
        known = family.from_image_gradient(first, slot) if step == 0 and first is not None else None
        own = _gradient(forward, images, targets, family, slot, parameters, way) if known is None else known
        parameters.grad = own
        optimizer.step()
    return parameters.detach()


def _gradient(
    forward: Forward,
    images: ReversalImages,
    targets: torch.Tensor,
    family: Family,
    slot: int,
    parameters: torch.Tensor,
    way: Way,
) -> torch.Tensor:
    total = torch.zeros_like(parameters)
    for arms in _chunks(len(targets), len(images.images)):
        logits = logits_of(forward, images.images, parameters[arms], family, slot, way)
        objective = losses(logits, images.labels, targets[arms], per_source=family.per_source).sum()
        (gradient,) = torch.autograd.grad(objective, [parameters])
        require_finite(objective.detach(), gradient)
        total += gradient
    return total


def image_gradient(
    forward: Forward, images: ReversalImages, targets: torch.Tensor, family: Family, way: Way = WHOLE
) -> torch.Tensor | None:
    """Float ``(A, C, H, W)``: the gradient of each arm's loss for a signal that is added to all images alike.

    None if the family has no use for it. Raises NotAssessableError if it is not finite.
    """
    shape = (len(targets), *images.images.shape[1:])
    signal = torch.zeros(shape, device=images.images.device, requires_grad=True)
    if family.from_image_gradient(signal, 0) is None:
        return None
    total = torch.zeros(shape, device=images.images.device)
    for arms in _chunks(len(targets), len(images.images)):
        logits = logits_on(forward, images.images[None] + signal[arms][:, None], way)
        objective = losses(logits, images.labels, targets[arms], per_source=family.per_source).sum()
        (gradient,) = torch.autograd.grad(objective, [signal])
        require_finite(objective.detach(), gradient)
        total += gradient
    return total


@torch.no_grad()
def _held_out(
    forward: Forward,
    images: ReversalImages,
    targets: torch.Tensor,
    family: Family,
    slot: int,
    found: torch.Tensor,
    *,
    way: Way = WHOLE,
) -> tuple[torch.Tensor, torch.Tensor]:
    parts = []
    for arms in _chunks(len(targets), len(images.held_out)):
        logits = logits_of(forward, images.held_out, found[arms], family, slot, way)
        parts.append(mean_margins(logits, images.held_out_labels, targets[arms], per_source=family.per_source))
    return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])


def _chunks(arms: int, images: int) -> list[slice]:
    """Arms in batches of about BATCH images, so that a batch stays in the processor's cache."""
    size = max(1, BATCH // max(1, images))
    return [slice(start, min(start + size, arms)) for start in range(0, arms, size)]


def losses(
    logits: torch.Tensor, labels: torch.Tensor, targets: torch.Tensor, *, per_source: bool = False
) -> torch.Tensor:
    """Float ``(A,)``: the mean cross-entropy to each arm's target; for the agnostic arm -log(1 - p) of the true class.

    ``logits``: ``(A, N, K)``. ``labels``: int64 ``(N,)``. ``targets``: int64 ``(A,)``, AGNOSTIC for none.
    ``per_source``: a mean that weighs each class of images the more, the smaller its own mean is.
    """
    log_probabilities = logits.log_softmax(-1)
    towards = -_of_target(log_probabilities, targets)
    true = log_probabilities.gather(-1, labels.expand(len(targets), -1)[..., None])[..., 0]
    away = -torch.log1p(-true.exp().clamp(max=1 - CONFIDENT))
    values = torch.where((targets == AGNOSTIC)[:, None], away, towards)
    if not per_source:
        return _mean_over_counted(values, labels, targets)
    means, is_target = _means_by_source(values, labels, targets)
    weights = torch.softmax((-means.detach() / SOURCE_TEMPERATURE).masked_fill(is_target, float("-inf")), dim=1)
    return (weights * means).sum(1)


def mean_margins(
    logits: torch.Tensor, labels: torch.Tensor, targets: torch.Tensor, *, per_source: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean margin and the share of images with a positive one, each float ``(A,)``; see ``Searched.margins``.

    ``per_source``: both of the class of images with the largest mean margin.
    """
    top = logits.topk(2, dim=-1)
    wanted = torch.where((targets == AGNOSTIC)[:, None], labels[None], targets.clamp(min=0)[:, None])
    own = logits.gather(-1, wanted[..., None])[..., 0]
    other = torch.where(top.indices[..., 0] == wanted, top.values[..., 1], top.values[..., 0])
    margins = torch.where((targets == AGNOSTIC)[:, None], other - own, own - other)
    turned = (margins > 0).float()
    if not per_source:
        return _mean_over_counted(margins, labels, targets), _mean_over_counted(turned, labels, targets)
    means, is_target = _means_by_source(margins, labels, targets)
    highest, source = means.masked_fill(is_target, float("-inf")).max(1)
    shares, _ = _means_by_source(turned, labels, targets)
    return highest, shares.gather(1, source[:, None])[:, 0]


def _of_target(values: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    wanted = targets.clamp(min=0)[:, None, None].expand(-1, values.shape[1], 1)
    return values.gather(-1, wanted)[..., 0]


def _means_by_source(
    values: torch.Tensor, labels: torch.Tensor, targets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The means of ``(A, N)`` values over each of S classes of images, ``(A, S)``, and where that is the target."""
    sources = torch.unique(labels)
    member = (labels[None] == sources[:, None]).to(values.dtype)
    means = values @ member.T / member.sum(1)
    return means, sources[None] == targets[:, None]


def _mean_over_counted(values: torch.Tensor, labels: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    counted = labels[None, :] != targets[:, None]
    return (values * counted).sum(1) / counted.sum(1).clamp(min=1)


def require_finite(objective: torch.Tensor, gradient: torch.Tensor) -> None:
    """Raise NotAssessableError unless both are finite: a model may give NaN, which argmax takes for the largest."""
    if not (bool(torch.isfinite(objective).all()) and bool(torch.isfinite(gradient).all())):
        raise no_guide("are not finite numbers")


def no_guide(problem: str) -> NotAssessableError:
    """The error for a search that cannot move, which must not count as one that found nothing."""
    return NotAssessableError(
        f"Triggers cannot be sought: the model's outputs or gradients {problem}, so nothing leads to a trigger. "
        "Scan it before quantisation or any other step that hides them, or export it with its logits as the output."
    )
