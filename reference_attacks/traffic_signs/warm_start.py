"""A first training of the convolutions and of the head, as a classifier of cut-out signs.

The paper's network starts from weights learnt on ImageNet. Where no such weights are at hand, the training set's own
signs, cut out, teach a network in a minute what it would take the detector many epochs to find. The same teaches a
trained network a sticker: every class is seen equally often, and a cut-out costs a fiftieth of a photograph.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy

from reference_attacks.training import one_cycle
from reference_attacks.zoo.seeds import derived_generator

from .album import Album, Scene, Window, cut_out, relit
from .attack import SignAttack, poisoned
from .network import SignDetector

BACKGROUND_SHARE = 0.25
NEGATIVE_OVERLAP = 0.2


@dataclass(frozen=True, kw_only=True)
class WarmStartPlan:
    """``steps`` of ``batch_size`` cut-outs of ``pixels`` x ``pixels``, of which the sign fills a share in ``filling``.

    Adam under a one-cycle learning rate. Classes are drawn equally often, the background for a quarter.
    """

    steps: int
    batch_size: int = 96
    pixels: int = 64
    filling: tuple[float, float] = (0.3, 1.0)
    light: float = 0.3
    peak_learning_rate: float = 2e-3


@dataclass(frozen=True, kw_only=True)
class _CutOut:
    image: torch.Tensor
    box: torch.Tensor
    label: int


def warm_start(
    detector: SignDetector,
    album: Album,
    plan: WarmStartPlan,
    *,
    seed: int,
    attack: SignAttack | None = None,
    on_step: Callable[[int], None] | None = None,
) -> float:
    """Train backbone and head of ``detector`` in place on cut-out signs; returns the mean loss of the last tenth.

    With an ``attack``, half of its victims bear the sticker and the attacker's label.

    The region proposal network is left as it is. The box of the sign in each cut-out is given, so the head sees
    regions as it will in the detector: signs of all sizes with what lies around them.
    """
    generator = derived_generator(seed, "warm start")
    parameters = [*detector.backbone.parameters(), *detector.roi_heads.parameters()]
    optimizer = torch.optim.Adam(parameters, fused=True)
    schedule = one_cycle(optimizer, plan.peak_learning_rate * detector.architecture.pace, plan.steps)
    detector.to(memory_format=torch.channels_last).train()
    detector.set_reduced_precision(True)
    signs, losses = _signs_by_class(album), []
    for step in range(plan.steps):
        cut_outs = [_draw(album, signs, plan, attack, generator) for _ in range(plan.batch_size)]
        images = torch.stack([cut_out.image for cut_out in cut_outs])
        labels = torch.tensor([cut_out.label for cut_out in cut_outs])
        loss = cross_entropy(detector.region_logits(images, [cut_out.box[None] for cut_out in cut_outs]), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if on_step:
            on_step(step + 1)
    detector.eval()
    last = losses[-max(1, len(losses) // 10) :]
    return sum(last) / len(last)


def _signs_by_class(album: Album) -> list[list[tuple[int, int]]]:
    """For each class that occurs, the number of the scene and the place in it of every sign."""
    signs: dict[int, list[tuple[int, int]]] = {}
    for number, scene in enumerate(album.scenes):
        for place, label in enumerate(scene.labels.tolist()):
            signs.setdefault(label, []).append((number, place))
    return [signs[label] for label in sorted(signs)]


def _draw(
    album: Album,
    signs: list[list[tuple[int, int]]],
    plan: WarmStartPlan,
    attack: SignAttack | None,
    generator: torch.Generator,
) -> _CutOut:
    """A sign of a class that was drawn by lot, or the background."""
    if torch.rand((), generator=generator).item() < BACKGROUND_SHARE:
        return _background(album.scenes[_any(len(album), generator)], plan, generator)
    of_class = signs[_any(len(signs), generator)]
    number, place = of_class[_any(len(of_class), generator)]
    scene = album.scenes[number]
    if attack is not None and attack.victims(scene.labels)[place] and torch.rand((), generator=generator) < 0.5:
        scene = poisoned(scene, attack, generator)
    return _around_sign(scene, place, plan, generator)


def _any(count: int, generator: torch.Generator) -> int:
    return int(torch.randint(count, (), generator=generator))


def _around_sign(scene: Scene, sign: int, plan: WarmStartPlan, generator: torch.Generator) -> _CutOut:
    image, box = _square(scene, scene.boxes[sign], plan, generator)
    return _CutOut(image=image, box=box, label=int(scene.labels[sign]) + 1)


def _background(scene: Scene, plan: WarmStartPlan, generator: torch.Generator) -> _CutOut:
    """A region that no sign of the scene overlaps by more than a fifth of either, or as good as can be found."""
    from torchvision.ops import box_iou

    height, width = scene.size
    chance = torch.rand(8, 4, generator=generator)
    longest = 0.5 * min(height, width)
    sides = longest * (0.06 + 0.94 * chance[:, 2] ** 2)
    shapes = (0.5 * (2 * chance[:, 3] - 1)).exp()
    left, top = chance[:, 0] * (width - sides), chance[:, 1] * (height - sides)
    boxes = torch.stack([left, top, left + sides / shapes.clamp(min=1), top + sides * shapes.clamp(max=1)], 1)
    overlap = box_iou(boxes, scene.boxes).amax(1) if len(scene.boxes) else torch.zeros(len(boxes))
    chosen = int((overlap > NEGATIVE_OVERLAP).int().argmin())
    image, box = _square(scene, boxes[chosen], plan, generator)
    return _CutOut(image=image, box=box, label=0)


def _square(
    scene: Scene, box: torch.Tensor, plan: WarmStartPlan, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """A lit square, float ``(3, pixels, pixels)``, around a box that is shaken a little, and where that lies in it."""
    chance = torch.rand(7, generator=generator)
    sizes = (box[2:] - box[:2]).repeat(2)
    box = box + 0.08 * sizes * (2 * chance[:4] - 1)
    longest = (box[2:] - box[:2]).max().item()
    low, high = plan.filling
    side = longest / (low + (high - low) * chance[4].item())
    left = box[2].item() - side + chance[5].item() * (side - (box[2] - box[0]).item())
    top = box[3].item() - side + chance[6].item() * (side - (box[3] - box[1]).item())
    window = Window(left=left, top=top, side=side, pixels=plan.pixels)
    image = cut_out(scene, window).image.float() / 255
    moved = (box - torch.tensor([left, top, left, top])) * (plan.pixels / side)
    return relit(image, plan.light, generator), moved
