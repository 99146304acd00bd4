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


def write_victim(victim: Victim, out: Path) -> Path:
    """Write ``out/NAME/``, and return it: ``model.onnx``, its card ``model.json``, and the sets of images.

    The card's entry ``matrix`` is what ``detection matrix`` reads, for a group whose ``files`` are ``*/model.onnx``.
    ``train.npz``, ``clean.npz`` and ``poisons.json`` are what ``detection training-data --folders`` reads. The model is
    written last: a folder without it is one whose writing was interrupted. Raises RuntimeError if ONNX Runtime's logits
    of clean images differ from PyTorch's.
    """
    folder = out / victim.name
    for name, images in (("train", victim.training), ("clean", victim.clean)):
        write_atomically(folder / f"{name}.npz", npz_bytes(images))
    write_card(folder, victim.title, victim.poisons.tolist(), {"input_range": [0, 1]})
    card = {
        "title": victim.title,
        "matrix": {"attack": victim.row, "success": victim.success, "target": victim.target},
        **victim.notes,
    }
    write_atomically((folder / MODEL).with_suffix(".json"), f"{json.dumps(card, indent=1)}\n".encode())
    model = checked_onnx_bytes(victim.name, victim.network, as_input(victim.clean.images[:CHECKED_IMAGES]))
    write_atomically(folder / MODEL, model)
    return folder


def npz_bytes(images: ImageSet) -> bytes:
    """An ``.npz`` of ``x``, uint8 ``(N, H, W, C)``, and ``y``, int64 ``(N,)``."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, x=images.images.permute(0, 2, 3, 1).numpy(), y=images.labels.numpy())
    return buffer.getvalue()
