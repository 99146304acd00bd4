"""Independent jobs in several processes of one thread each, with a progress bar."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

Job = TypeVar("Job")


def work_off(function: Callable[[Job], None], jobs: Sequence[Job], *, workers: int, description: str) -> None:
    """Call ``function``, which keeps its own result, for each of ``jobs`` in at most ``workers`` processes."""
    from rich.progress import track

    if not jobs:
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(min(workers, len(jobs)), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for _ in track(pool.imap_unordered(function, jobs), total=len(jobs), description=description):
            pass
