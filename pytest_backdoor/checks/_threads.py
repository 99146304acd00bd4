"""How many threads searches run in: several of one, never one computation spread over several."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

MOST = 8


@contextmanager
def single_threaded() -> Iterator[None]:
    """Every operator of torch runs in its caller's thread, until the number of threads is restored.

    Threads that share one small operator wait for each other, and where other processes want the same cores they wait
    for long. And sums that are split differently round differently, so that reports would depend on how many threads
    a run happened to have.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def usable_cores() -> int:
    """How many cores this process may use, at most MOST."""
    affinity = getattr(os, "sched_getaffinity", None)
    available = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min(MOST, available))
