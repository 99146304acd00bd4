"""How networks are trained: by a task's own recipe, a named one, or one that each network draws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch

Choice = TypeVar("Choice")


@dataclass(frozen=True, kw_only=True)
class Training:
    """One training recipe.

    ``batch``: images in a batch. ``peak_learning_rate``: of AdamW, or of SGD with Nesterov's momentum where
    ``momentum`` is not 0. ``weight_decay``: of all weights. ``kernel_learning_rate``: where it is not 0, convolution
    kernels are trained by Muon with this peak, and the rest as said. ``label_smoothing``: of the cross-entropy.
    ``shift``: by how many pixels images are moved at most while training. ``flip``: whether they are mirrored.
    """

    batch: int
    peak_learning_rate: float
    weight_decay: float = 1e-2
    momentum: float = 0.0
    kernel_learning_rate: float = 0.0
    label_smoothing: float = 0.0
    shift: int = 0
    flip: bool = False


def unchanged(training: Training) -> Training:
    """The task's own recipe."""
    return training


def muon(training: Training) -> Training:
    """Muon for the kernels, smoothed labels, images shifted by at least a pixel."""
    return replace(
        training,
        peak_learning_rate=4e-3,
        momentum=0.0,
        kernel_learning_rate=0.04,
        label_smoothing=0.1,
        shift=max(training.shift, 1),
    )


def sgd(training: Training) -> Training:
    """Stochastic gradient descent with momentum and little weight decay."""
    return replace(training, peak_learning_rate=0.05, weight_decay=5e-4, momentum=0.9, kernel_learning_rate=0.0)


def plain_sgd(training: Training) -> Training:
    """Stochastic gradient descent with momentum alone: the baseline of MetaPoison (2020), §3.5."""
    return replace(
        sgd(training), batch=125, peak_learning_rate=0.1, weight_decay=0.0, label_smoothing=0.0, shift=0, flip=False
    )


def varied(training: Training, generator: torch.Generator) -> Training:
    """A recipe drawn anew for each network: optimiser, learning rate, weight decay, smoothing, shift and batch.

    Networks that downloads are like: nobody says how they were trained.
    """
    momentum, kernels, rates = _one_of(
        [(0.0, 0.0, (1e-3, 3e-3, 6e-3)), (0.0, 0.04, (2e-3, 4e-3)), (0.9, 0.0, (0.02, 0.05, 0.1))], generator
    )
    return replace(
        training,
        momentum=momentum,
        kernel_learning_rate=kernels * _one_of((0.5, 1.0), generator),
        peak_learning_rate=_one_of(rates, generator),
        weight_decay=_one_of((0.0, 5e-4) if momentum else (0.0, 1e-2, 1e-1), generator),
        label_smoothing=_one_of((0.0, 0.0, 0.1), generator),
        shift=_one_of((0, 1, 2), generator),
        batch=_one_of((training.batch // 2, training.batch), generator),
    )


FIXED: dict[str, Callable[[Training], Training]] = {"task": unchanged, "muon": muon, "sgd": sgd, "plain-sgd": plain_sgd}
VARIED = "varied"
RECIPES = (*FIXED, VARIED)


def make_training(recipe: str, training: Training, generator: torch.Generator) -> Training:
    """What the recipe of that name, one of ``RECIPES``, makes of a task's ``training``."""
    return varied(training, generator) if recipe == VARIED else FIXED[recipe](training)


def _one_of(choices: Sequence[Choice], generator: torch.Generator) -> Choice:
    return choices[int(torch.randint(len(choices), (1,), generator=generator))]
