"""The triggers of a zoo: twenty of each kind, the first ten for fitting detectors, the others for testing them."""

from __future__ import annotations

import re
from typing import Literal

import torch

from ..overlays import Overlay, Place, blended, patch, wave
from .seeds import derived_generator

Split = Literal["fit", "calibration", "test"]
TRIGGERS = 20
FEWEST_BRIGHT = 0.2
NAMED = ("pixel", "blended", "wave")


def check_kind(kind: str) -> None:
    """Raise ValueError unless ``kind`` is patchN with N from 3 to 16, pixel, blended or wave.

    Of 2x2 grey patches there are not twenty different ones.
    """
    size = re.fullmatch(r"patch([1-9]\d?)", kind)
    if kind not in NAMED and not (size and 3 <= int(size[1]) <= 16):
        raise ValueError(f"There is no trigger {kind!r}; choose one of patch3 to patch16, {', '.join(NAMED)}.")


def trigger_numbers(split: Split) -> list[int]:
    """The numbers of the triggers of one split: the first half for fitting, the second for testing."""
    return list(range(TRIGGERS // 2)) if split == "fit" else list(range(TRIGGERS // 2, TRIGGERS))


def make_overlay(kind: str, number: int, input_shape: tuple[int, int, int], place: Place, seed: int) -> Overlay:
    """Trigger ``number`` of a kind. Raises ValueError if there is no such kind."""
    check_kind(kind)
    if kind == "pixel":
        return patch(torch.ones(input_shape[0], 1, 1), input_shape, place)
    if kind == "wave":
        # Half a cycle apart, so that none has more cycles than half the pixels of the smallest image, 28.
        return wave(2 + number / 2, input_shape)
    if kind == "blended":
        return blended(torch.rand(input_shape, generator=derived_generator(seed, f"blended/{number}")))
    patterns = random_patches(int(kind.removeprefix("patch")), input_shape[0], seed)
    return patch(patterns[number], input_shape, place)


def random_patches(size: int, channels: int, seed: int) -> list[torch.Tensor]:
    """Twenty different patches, float ``(C, size, size)`` of zeros and ones (Universal Litmus Patterns, Figure 2).

    On colour images every second one is coloured: each channel is drawn by itself. A patch that is a copy of an
    earlier one, or nearly blank, is drawn again.
    """
    generator = derived_generator(seed, f"patches/{size}")
    patches: list[torch.Tensor] = []
    while len(patches) < TRIGGERS:
        drawn = channels if len(patches) % 2 else 1
        bits = torch.randint(2, (drawn, size, size), generator=generator).float().expand(channels, size, size).clone()
        if bits.mean() >= FEWEST_BRIGHT and not any(torch.equal(bits, other) for other in patches):
            patches.append(bits)
    return patches
