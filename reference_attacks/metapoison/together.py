"""Several processes, with a CPU core or a GPU each, on one crafting, through ``torch.distributed``."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as distributed

# The processes wait for each other once in a craft step, which on a slow machine takes minutes.
PATIENCE = timedelta(hours=2)

Group = distributed.ProcessGroup


class Members:
    """The processes of ``group``, or this one alone where it is None."""

    def __init__(self, group: Group | None) -> None:
        self._group = group
        self.count = 1 if group is None else distributed.get_world_size(group)
        self.rank = 0 if group is None else distributed.get_rank(group)

    def total(self, value: torch.Tensor) -> torch.Tensor:
        """``value`` summed over the processes, in place; all get the same."""
        if self._group is not None:
            distributed.all_reduce(value, group=self._group)
        return value

    def wait(self) -> None:
        """Until all have come as far."""
        self.total(torch.zeros(1))


def started_by_torchrun() -> bool:
    """Whether this process is one of several that ``torchrun`` has started."""
    return distributed.is_torchelastic_launched() and int(os.environ.get("WORLD_SIZE", "1")) > 1


def device_of(rank: int, device: str) -> str:
    """Each process its own GPU where there are several."""
    return f"cuda:{rank % torch.cuda.device_count()}" if device == "cuda" else device


def backend_for(workers: int, device: str) -> str:
    """NCCL wants a GPU for each process."""
    return "nccl" if device == "cuda" and torch.cuda.device_count() >= workers else "gloo"


@contextmanager
def torchrun_group(device: str) -> Iterator[Group]:
    """The group of the processes that ``torchrun`` has started, this one being one of them."""
    backend = backend_for(int(os.environ["LOCAL_WORLD_SIZE"]), device)
    with _joined(lambda: distributed.init_process_group(backend, timeout=PATIENCE)) as group:
        yield group


@contextmanager
def workers_group(workers: int, device: str, work: Callable[..., Any], arguments: tuple[Any, ...]) -> Iterator[Group]:
    """Start ``workers - 1`` further processes, which call ``work(group, rank, *arguments)``, and join them here.

    This process is number 0 and has to take part while the context lasts. The others end with it, however it ends.
    """
    threads = torch.get_num_threads()
    context = torch.multiprocessing.get_context("spawn")
    each = max(1, (os.cpu_count() or 1) // workers) if device == "cpu" else threads
    with tempfile.TemporaryDirectory(prefix="metapoison-") as folder:
        meeting = (str(Path(folder) / "meeting"), workers, backend_for(workers, device), each)
        others = [
            context.Process(target=_worker, args=(rank, meeting, work, arguments), daemon=True)
            for rank in range(1, workers)
        ]
        for other in others:
            other.start()
        try:
            torch.set_num_threads(each)
            with _joined(lambda: _meet(0, meeting)) as group:
                yield group
            for other in others:
                other.join()
        finally:
            torch.set_num_threads(threads)
            for other in others:
                other.terminate()
                other.join()


def _meet(rank: int, meeting: tuple[str, int, str, int]) -> None:
    file, workers, backend, _ = meeting
    distributed.init_process_group(
        backend, init_method=f"file://{file}", world_size=workers, rank=rank, timeout=PATIENCE
    )


@contextmanager
def _joined(join: Callable[[], None]) -> Iterator[Group]:
    join()
    try:
        group = distributed.group.WORLD
        assert group is not None
        yield group
    finally:
        distributed.destroy_process_group()


def _worker(
    rank: int, meeting: tuple[str, int, str, int], work: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    torch.set_num_threads(meeting[3])
    try:
        with _joined(lambda: _meet(rank, meeting)) as group:
            work(group, rank, *arguments)
    except (ValueError, KeyboardInterrupt):
        # The first process has the same arguments and meets the same, and says so.
        raise SystemExit(1) from None
