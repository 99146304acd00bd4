"""How a zoo is trained on the machine at hand: device, processes, group size and number format."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

from .recipe import Precision

GROUP_ON_GPU = 32
WORKERS_ON_GPU = 2


@dataclass(frozen=True, kw_only=True)
class Machine:
    """``device``: cpu, cuda, ... ``workers``: processes. ``group``: networks that train as one program."""

    device: str
    workers: int
    group: int
    precision: Precision


def choose_machine(device: str | None, workers: int | None, group: int | None, precision: Precision | None) -> Machine:
    """What was asked for, and for the rest what docs/benchmarks/zoo.md found fastest.

    On a CPU a batched group is slower than its networks one by one (grouped convolutions), so each core trains one
    network; on a GPU one network of this size leaves the device idle. Raises ValueError for numbers below one.
    """
    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    on_cpu = chosen == "cpu"
    if any(number is not None and number < 1 for number in (workers, group)):
        raise ValueError("There must be at least one worker, and at least one network in a group.")
    return Machine(
        device=chosen,
        workers=workers or ((os.cpu_count() or 1) if on_cpu else WORKERS_ON_GPU),
        group=group or (1 if on_cpu else GROUP_ON_GPU),
        precision=precision or ("bfloat16" if computes_bfloat16(chosen) else "float32"),
    )


def computes_bfloat16(device: str) -> bool:
    """Whether the device multiplies bfloat16 matrices in hardware."""
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device == "cpu" and bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
