"""Training the groups of a zoo on a Ray cluster: one that runs already, or one of this machine's cores."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data import ImageSet
from .images import read_images
from .recipe import Member, ZooPlan
from .work import TaskImages, Trained, train_members

# How often a group whose worker was lost is tried again, before its networks themselves are the likely cause.
RETRIES = 5
LONGEST_ANSWER = 10.0  # seconds
# Ray sends usage statistics and prints advice on accelerators unless its environment says otherwise.
ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}

Arrays = dict[str, "np.ndarray[Any, Any]"]


@dataclass(frozen=True, kw_only=True)
class RayExecutor:
    """Tasks of a Ray cluster, each with one core and one thread; the images travel through Ray's object store.

    ``workers``: the cores of a cluster that is started here; on a GPU, how many tasks share one. ``device``: cpu, cuda
    or mps; which GPU a task gets is Ray's choice. ``address``: a running cluster (``HOST:PORT``, or ``auto``
    for the one of this machine), None to start one. Raises ValueError if Ray is not installed.
    """

    workers: int
    device: str = "cpu"
    address: str | None = None

    def __post_init__(self) -> None:
        if find_spec("ray") is None:
            raise ValueError(
                "Training on Ray needs the package ray: pip install 'pytest-backdoor[ray]', or use --executor local."
            )

    def __call__(self, plan: ZooPlan, groups: Sequence[list[Member]], folder: Path) -> Iterator[list[Trained]]:
        """Results of each group as soon as it is trained.

        Raises ConnectionError if ``address`` does not answer, ChildProcessError if a group lost its worker again and
        again, and whatever a group's own work raises.
        """
        with _cluster(self.workers, self.address):
            yield from self._results(plan, groups, as_arrays(read_images(folder)))

    def _results(self, plan: ZooPlan, groups: Sequence[list[Member]], images: Arrays) -> Iterator[list[Trained]]:
        import ray

        on_gpu = self.device.startswith("cuda")
        remote = ray.remote(
            num_cpus=1, num_gpus=1 / self.workers if on_gpu else 0, max_retries=RETRIES, retry_exceptions=False
        )(work)
        shared = ray.put(images)
        pending = [remote.remote(shared, plan, group, "cuda" if on_gpu else self.device) for group in groups]
        try:
            while pending:
                finished, pending = ray.wait(pending)
                yield _fetched(finished[0])
        finally:
            # A cluster that was there before lives on; it need not train what nobody waits for.
            for task in pending:
                ray.cancel(task, force=True)


def work(arrays: Arrays, plan: ZooPlan, group: list[Member], device: str) -> list[Trained]:
    """One task: train a group as a worker of ``LocalExecutor`` does, which gives the same weights."""
    torch.set_num_threads(1)
    return train_members(plan, group, as_images(arrays), device)


def as_arrays(images: TaskImages) -> Arrays:
    """The images as arrays, which all tasks on one machine read from the same shared memory."""
    return {
        f"{part}/{name}": getattr(getattr(images, part), name).numpy()
        for part in ("train", "test")
        for name in ("images", "labels")
    }


def as_images(arrays: Arrays) -> TaskImages:
    """The inverse of ``as_arrays``; copied, since torch has no tensors that are read-only as shared memory is."""
    train, test = (
        ImageSet(images=torch.tensor(arrays[f"{part}/images"]), labels=torch.tensor(arrays[f"{part}/labels"]))
        for part in ("train", "test")
    )
    return TaskImages(train=train, test=test)


@contextmanager
def _cluster(workers: int, address: str | None) -> Iterator[None]:
    """A connection to Ray; one that this process had before is used and left open."""
    os.environ.update(ENVIRONMENT)
    import ray

    if ray.is_initialized():
        yield
        return
    try:
        _connect(workers, address)
        yield
    finally:
        ray.shutdown()


def _connect(workers: int, address: str | None) -> None:
    import ray

    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address is None:
        ray.init(num_cpus=workers, include_dashboard=False, **quiet)
        return
    try:
        host, _, port = address.rpartition(":")
        if port.isdigit():
            # Ray itself tries for minutes before it gives up.
            socket.create_connection((host, int(port)), LONGEST_ANSWER).close()
        ray.init(address=address, **quiet)
    except OSError as error:
        raise ConnectionError(
            f"No Ray cluster answers at {address} ({error}); start one with ray start --head, or leave out "
            "--ray-address."
        ) from error


def _fetched(task: Any) -> list[Trained]:
    import ray
    from ray.exceptions import NodeDiedError, OutOfMemoryError, RayTaskError, WorkerCrashedError

    try:
        results: list[Trained] = ray.get(task)
    except RayTaskError as error:
        # Ray's own error is the whole traceback of the worker; the user needs the sentence at its end.
        raise error.cause from error
    except (WorkerCrashedError, NodeDiedError, OutOfMemoryError) as error:
        raise ChildProcessError(
            f"A group of networks lost its Ray worker {RETRIES + 1} times, which is how a lack of memory shows; "
            "run the same command again with fewer --workers or a smaller --group."
        ) from error
    return results
