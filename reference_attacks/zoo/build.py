"""Training the networks of a zoo: several processes, resumable after a kill at any moment."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as safetensors_bytes

from pytest_backdoor.files import write_atomically

from ..data import ImageSet, load_mnist
from ..networks import BadNetsMnistNetwork, mnist_badnet
from ..training import TrainingPlan, accuracy, predict, train
from .recipe import Member, ZooPlan, derived_seed

LEAST_ATTACK_SUCCESS = 0.90
LEAST_CLEAN_ACCURACY = 0.98


def poisoned_training_set(clean: ImageSet, member: Member, plan: ZooPlan, generator: torch.Generator) -> ImageSet:
    """``clean`` and backdoored copies of images of the source class (Universal Litmus Patterns, §4.1).

    ``plan.poison_ratio`` is the share of backdoored images among the images of the source class; 0.5 adds one copy
    of every image. The paper says only "the ratio of the number of poisoned to clean images"; this reading is that
    of the authors' published scripts.
    """
    if member.source is None or member.target is None or member.trigger is None:
        return clean
    sources = clean.of_class(member.source)
    count = min(len(sources), round(len(sources) * plan.poison_ratio / (1 - plan.poison_ratio)))
    chosen = sources.take(torch.randperm(len(sources), generator=generator)[:count])
    triggered = plan.triggers()[member.trigger].apply_to_random_corners(chosen.images, generator)
    return ImageSet(
        images=torch.cat([clean.images, triggered]),
        labels=torch.cat([clean.labels, torch.full((count,), member.target)]),
    )


def train_member(plan: ZooPlan, member: Member, clean: ImageSet) -> BadNetsMnistNetwork:
    """The trained network of one member; the same plan and member always give the same weights on one machine."""
    seed = derived_seed(plan.seed, f"{member.name}/training")
    generator = torch.Generator().manual_seed(seed)
    data = poisoned_training_set(clean, member, plan, generator)
    network = mnist_badnet(seed)
    train(network, data, TrainingPlan(steps=member.steps), generator)
    return network


def attack_success(network: torch.nn.Module, member: Member, plan: ZooPlan, test: ImageSet) -> float | None:
    """The share of triggered test images of the source class that become the target; None for a clean network."""
    if member.source is None or member.trigger is None:
        return None
    generator = torch.Generator().manual_seed(derived_seed(plan.seed, f"{member.name}/test"))
    images = plan.triggers()[member.trigger].apply_to_random_corners(test.of_class(member.source).images, generator)
    return (predict(network, images) == member.target).float().mean().item()


def build_zoo(plan: ZooPlan, folder: Path, *, root: str | None, workers: int) -> dict[str, Any]:
    """Train every member that ``folder`` does not hold yet, write ``manifest.json`` and return it.

    Raises ValueError if the folder holds a zoo of another plan.
    """
    _check_same_plan(plan, folder)
    missing = [member for member in plan.members() if not _record_path(folder, member).exists()]
    if missing:
        _train_in_processes(plan, missing, folder, root, workers)
    manifest = assemble_manifest(plan, folder)
    write_atomically(folder / "manifest.json", json.dumps(manifest, indent=1).encode())
    return manifest


def assemble_manifest(plan: ZooPlan, folder: Path) -> dict[str, Any]:
    """The plan, one record for each finished member, and how many were rejected and why."""
    records = [
        json.loads(path.read_text()) for member in plan.members() if (path := _record_path(folder, member)).exists()
    ]
    rejected = [record for record in records if not record["kept"]]
    return {"version": 1, "plan": asdict(plan), "rejected": len(rejected), "networks": records}


def _train_in_processes(plan: ZooPlan, members: list[Member], folder: Path, root: str | None, workers: int) -> None:
    from rich.progress import track

    context = multiprocessing.get_context("spawn")
    with context.Pool(workers, initializer=_start_worker, initargs=(plan, folder, root)) as pool:
        finished: Iterator[str] = pool.imap_unordered(_work, members)
        for _ in track(finished, total=len(members), description="Training networks"):
            pass


_worker_state: dict[str, Any] = {}


def _start_worker(plan: ZooPlan, folder: Path, root: str | None) -> None:
    torch.set_num_threads(1)
    _worker_state.update(
        plan=plan, folder=folder, train=load_mnist(root, train=True), test=load_mnist(root, train=False)
    )


def _work(member: Member) -> str:
    plan, folder = _worker_state["plan"], _worker_state["folder"]
    network = train_member(plan, member, _worker_state["train"])
    clean_accuracy = accuracy(network, _worker_state["test"])
    success = attack_success(network, member, plan, _worker_state["test"])
    kept = clean_accuracy >= LEAST_CLEAN_ACCURACY and (success is None or success > LEAST_ATTACK_SUCCESS)
    weights = {name: value.contiguous() for name, value in network.state_dict().items()}
    write_atomically(folder / "networks" / f"{member.name}.safetensors", safetensors_bytes(weights))
    record = {**asdict(member), "clean_accuracy": clean_accuracy, "attack_success": success, "kept": kept}
    # The record is written last: a network counts as trained only once both files are whole.
    write_atomically(_record_path(folder, member), json.dumps(record).encode())
    return member.name


def _record_path(folder: Path, member: Member) -> Path:
    return folder / "networks" / f"{member.name}.json"


def _check_same_plan(plan: ZooPlan, folder: Path) -> None:
    """A zoo may grow, since a network depends on its own name alone; its seed, task and threat model may not change."""
    path = folder / "plan.json"
    wanted = json.loads(json.dumps(asdict(plan)))
    before = json.loads(path.read_text()) if path.exists() else wanted
    if any(before.get(name, wanted[name]) != wanted[name] for name in ("task", "seed", "poison_ratio", "steps")):
        raise ValueError(f"{path} describes another zoo; choose an empty folder or the same options as before.")
    write_atomically(path, json.dumps(wanted, indent=1).encode())
