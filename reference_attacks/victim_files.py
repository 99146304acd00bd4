"""Victims of poisoning attacks as files, in the form that the detection matrix and ``--backdoor-train-data`` read."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pytest_backdoor.files import write_atomically

from .data import ImageSet
from .detectors.training_data.cases import write_card
from .training import as_input
from .zoo.export import checked_onnx_bytes

MODEL = "model.onnx"
CHECKED_IMAGES = 100


@dataclass(frozen=True, kw_only=True)
class Victim:
    """A network that was trained on a poisoned set, or a control that was trained on clean images alone.

    ``name``: of its folder. ``title``: the attack in words, for reports. ``row``: the row of the detection matrix, None
    for a control. ``success``: the share of the attack's targets, in [0, 1], that the network takes for the class
    ``target``; both None for a control. ``network``: float ``(N, C, H, W)`` in [0, 1] to logits, on the CPU.
    ``training``: all training images, uint8. ``poisons``: int64 ``(P,)``, which of these are poisons. ``clean``:
    labelled images that the network was not trained on and that are neither targets nor bases. ``notes``: JSON values
    that say how the victim was made.
    """

    name: str
    title: str
    row: str | None
    success: float | None
    target: int | None
    network: nn.Module
    training: ImageSet
    poisons: torch.Tensor
    clean: ImageSet
    notes: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class PoisonedImages:
    """A training set whose poisons are known, and clean samples; see ``Victim``."""

    training: ImageSet
    poisons: torch.Tensor
    clean: ImageSet


def is_written(name: str, out: Path) -> bool:
    """Whether the victim of that ``name`` is whole below ``out``."""
    return (out / name / MODEL).exists()


def write_victim(victim: Victim, out: Path) -> Path:
    """Write ``out/NAME/``, and return it: ``model.onnx``, its card ``model.json``, and the sets of images.

    The card's entry ``matrix`` is what ``detection matrix`` reads, for a group whose ``files`` are ``*/model.onnx``.
    ``train.npz``, ``clean.npz`` and ``poisons.json`` are what ``detection training-data --folders`` reads. The model is
    written last: a folder without it is one whose writing was interrupted. Raises RuntimeError if ONNX Runtime's logits
    of clean images differ from PyTorch's.
    """
    folder = out / victim.name
    card = {
        "title": victim.title,
        "matrix": {"attack": victim.row, "success": victim.success, "target": victim.target},
        **victim.notes,
    }
    write_atomically((folder / MODEL).with_suffix(".json"), f"{json.dumps(card, indent=1)}\n".encode())
    sets = PoisonedImages(training=victim.training, poisons=victim.poisons, clean=victim.clean)
    write_training_set(folder, victim.title, sets, victim.network, MODEL)
    return folder


def write_training_set(folder: Path, title: str, images: PoisonedImages, network: nn.Module, model: str) -> None:
    """Write a training set with the ``network`` that is to look at it, as ``detection training-data --folders`` reads.

    ``model``: the name of its ONNX file; only victims' are called ``model.onnx``. Raises as ``write_victim``.
    """
    for name, some in (("train", images.training), ("clean", images.clean)):
        write_atomically(folder / f"{name}.npz", npz_bytes(some))
    write_card(folder, title, images.poisons.tolist(), {"input_range": [0, 1]}, model=model)
    samples = as_input(images.clean.images[:CHECKED_IMAGES])
    write_atomically(folder / model, checked_onnx_bytes(folder.name, network, samples))


def npz_bytes(images: ImageSet) -> bytes:
    """An ``.npz`` of ``x``, uint8 ``(N, H, W, C)``, and ``y``, int64 ``(N,)``."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, x=images.images.permute(0, 2, 3, 1).numpy(), y=images.labels.numpy())
    return buffer.getvalue()
