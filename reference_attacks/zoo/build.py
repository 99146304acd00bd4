"""Building a zoo: what is missing is trained, a manifest says what is there. Resumable after a kill at any moment."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pytest_backdoor.files import write_atomically

from .conditions import with_verdicts
from .executors import Executor
from .images import read_images
from .recipe import Member, ZooPlan, grouped
from .work import Trained

GROWING = ("clean_fit", "clean_calibration", "clean_test", "poisoned_fit", "poisoned_test")


def build_zoo(plan: ZooPlan, folder: Path, *, executor: Executor, group_size: int = 1) -> dict[str, Any]:
    """Train every member that ``folder`` does not hold yet, write ``manifest.json`` and return it.

    ``folder`` holds the task's images already (``prepare_images``). Raises ValueError if it holds another zoo.
    """
    check_same_plan(plan, folder)
    missing = [group for group in grouped(plan.members(), group_size) if not all(_done(folder, m) for m in group)]
    if missing:
        _train(plan, missing, folder, executor)
    manifest = assemble_manifest(plan, folder)
    write_atomically(folder / "manifest.json", json.dumps(manifest, indent=1).encode())
    return manifest


def assemble_manifest(plan: ZooPlan, folder: Path) -> dict[str, Any]:
    """The plan and one record for each finished member, which says whether it is kept and, if not, why."""
    records = [
        json.loads(_record_path(folder, member.name).read_text()) for member in plan.members() if _done(folder, member)
    ]
    judged = with_verdicts(records, plan.least_attack_success)
    rejected = sum(record["rejected"] is not None for record in judged)
    return {
        "version": 2,
        "plan": asdict(plan),
        "input_shape": list(read_images(folder).input_shape),
        "rejected": rejected,
        "networks": judged,
    }


def check_same_plan(plan: ZooPlan, folder: Path) -> None:
    """Raise ValueError if ``folder`` holds another zoo.

    A zoo may grow, since a network depends on its own name alone; everything else about it may not change.
    """
    path = folder / "plan.json"
    wanted = json.loads(json.dumps(asdict(plan)))
    before = json.loads(path.read_text()) if path.exists() else wanted
    changed = sorted(name for name in wanted if name not in GROWING and before.get(name) != wanted[name])
    if changed:
        raise ValueError(
            f"{path} describes another zoo ({', '.join(changed)} differ); choose an empty folder or the same options."
        )
    write_atomically(path, json.dumps(wanted, indent=1).encode())


def _train(plan: ZooPlan, groups: list[list[Member]], folder: Path, executor: Executor) -> None:
    from rich.progress import Progress

    with Progress() as progress:
        bar = progress.add_task("Training networks", total=sum(len(group) for group in groups))
        for results in executor(plan, groups, folder):
            for trained in results:
                _keep(trained, folder)
            progress.advance(bar, len(results))


def _keep(trained: Trained, folder: Path) -> None:
    path = _record_path(folder, trained.name)
    if path.exists():
        return
    write_atomically(path.with_suffix(".safetensors"), trained.weights)
    # The record is written last: a network counts as trained only once both files are whole.
    write_atomically(path, json.dumps(trained.record).encode())


def _done(folder: Path, member: Member) -> bool:
    return _record_path(folder, member.name).exists()


def _record_path(folder: Path, name: str) -> Path:
    return folder / "networks" / f"{name}.json"
