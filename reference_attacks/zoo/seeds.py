"""One seed for the whole zoo, and from it one for every purpose."""

from __future__ import annotations

import hashlib

import torch


def derived_seed(seed: int, name: str) -> int:
    """A seed for one named purpose, independent of all others and of the order of work."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:7], "big")


def derived_generator(seed: int, name: str) -> torch.Generator:
    """A generator for one named purpose."""
    return torch.Generator().manual_seed(derived_seed(seed, name))
