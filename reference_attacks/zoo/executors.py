"""Where the groups of a zoo are trained: in processes of this machine, or on a Ray cluster."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from .images import read_images
from .recipe import Member, ZooPlan
from .work import Trained, train_members


class Executor(Protocol):
    """Trains groups somewhere and yields each group's results as it is finished, in any order."""

    def __call__(self, plan: ZooPlan, groups: Sequence[list[Member]], folder: Path) -> Iterator[list[Trained]]:
        """``folder``: the zoo's, which holds its images. Nothing but the caller writes results."""
        ...


@dataclass(frozen=True, kw_only=True)
class LocalExecutor:
    """Several processes of this machine, each with one thread. ``device``: cpu, cuda, cuda:1 or mps."""

    workers: int
    device: str = "cpu"

    def __call__(self, plan: ZooPlan, groups: Sequence[list[Member]], folder: Path) -> Iterator[list[Trained]]:
        """Results of each group as soon as it is trained.

        Raises ChildProcessError if a worker is ended from outside, as the system does where memory runs out.
        """
        before = set(multiprocessing.active_children())
        # Not multiprocessing.Pool, which waits for ever for the results of a worker that was killed.
        pool = ProcessPoolExecutor(
            min(self.workers, len(groups)),
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start_worker,
        )
        tasks = [pool.submit(_work, plan, group, folder, self.device) for group in groups]
        workers = set(multiprocessing.active_children()) - before
        try:
            for task in as_completed(tasks):
                yield task.result()
        except BrokenProcessPool as error:
            raise ChildProcessError(
                "A process that trained networks was ended from outside, as happens where memory runs out; run the "
                "same command again, if need be with fewer --workers or a smaller --group."
            ) from error
        finally:
            # Whoever stops early does not wait for networks that nobody will collect.
            for worker in workers:
                worker.terminate()
            pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    # One network is too small to split over threads; and Ctrl-C is the parent's to handle, which then ends the workers.
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _work(plan: ZooPlan, group: list[Member], folder: Path, device: str) -> list[Trained]:
    return train_members(plan, group, read_images(folder), device)
