"""``python -m reference_attacks litmus``: from a zoo to a detector pack."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..parsing import add_action_to, add_subcommand
from . import calibrate_command
from .calibrate_command import default_work

if TYPE_CHECKING:
    from pytest_backdoor.calibration import DetectorPack

DESCRIPTION = """\
Fit litmus patterns and their linear classifier jointly on the networks of a zoo (Universal Litmus Patterns, eq. 1),
compute the reference scores of the clean calibration networks for all checks of behaviour, and write all of it as one
detector pack. The figures on the test networks, whose
triggers and source-target pairs were in no part of the fit, are written beside it.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register ``litmus fit`` and ``litmus calibrate``."""
    actions = add_subcommand(subparsers, "litmus", "detector packs: patterns and reference scores")
    fit = add_action_to(actions, "fit", "fit patterns on a zoo and write a detector pack", DESCRIPTION)
    calibrate_command.add_parser(actions)
    fit.add_argument(
        "--zoo", type=Path, required=True, action="append", metavar="DIR", help="folder of a zoo; may be repeated"
    )
    fit.add_argument("--out", type=Path, required=True, metavar="PACK", help="the pack to write, a .npz file")
    fit.add_argument("--results", type=Path, metavar="DIR", help="folder for the held-out figures (NAME.json, NAME.md)")
    fit.add_argument("--name", help="name of the pack; default: that of the zoo's task")
    fit.add_argument("--patterns", type=int, default=10, metavar="M", help="number of patterns; default: %(default)s")
    fit.add_argument(
        "--pooling",
        choices=["symmetric-max", "symmetric-sum", "concatenation"],
        default="symmetric-max",
        help="the classifier: one that treats all classes alike, which needs fewer networks, or the paper's; "
        "default: %(default)s",
    )
    fit.add_argument("--epochs", type=int, metavar="N", help="passes over the networks")
    fit.add_argument("--seed", type=int, default=0, metavar="N", help="default: %(default)s")
    fit.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="processes; default: %(default)s"
    )
    fit.add_argument(
        "--no-reversal",
        action="store_true",
        help="leave out the reference scores of the reversal and margin checks; litmus calibrate adds them later",
    )
    fit.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Fit, calibrate and write. Raises ValueError, OSError or DataNotFoundError with a sentence."""
    from ..zoo.store import load_zoo
    from .calibrate import calibrate
    from .litmus import LitmusPlan
    from .packing import fit_pack

    zoos = [load_zoo(folder) for folder in arguments.zoo]
    name = arguments.name or Path(zoos[0].plan["task"]).name
    chosen: dict[str, Any] = {"patterns": arguments.patterns, "seed": arguments.seed, "pooling": arguments.pooling}
    if arguments.epochs:
        chosen["epochs"] = arguments.epochs
    pack = fit_pack(zoos, LitmusPlan(**chosen), name=name, command=recorded_command(arguments, name))
    if not arguments.no_reversal:
        pack = calibrate(pack, zoos, default_work(arguments.workers, arguments.seed))
    pack.save(arguments.out)
    write_results(pack, arguments.zoo, arguments.results)
    print(
        f"{arguments.out}: {arguments.out.stat().st_size / 1024:.0f} kB, litmus AUC {pack.built['litmus']['auc']:.3f}"
    )
    return 0


def recorded_command(arguments: argparse.Namespace, name: str) -> str:
    """The command that repeats this, without the paths of the machine it ran on."""
    kept = "--no-reversal " if arguments.no_reversal else ""
    return (
        f"python -m reference_attacks litmus fit {' '.join(f'--zoo {zoo.name}' for zoo in arguments.zoo)} "
        f"--name {name} --patterns {arguments.patterns} --pooling {arguments.pooling} --seed {arguments.seed} "
        f"{kept}--out {name}.npz"
    )


def _without_folder(plan: dict[str, Any]) -> dict[str, Any]:
    """A zoo's plan without the place of an image folder on the machine that it was built on."""
    return {**plan, "task": Path(plan["task"]).name}


def write_results(pack: DetectorPack, zoos: list[Path], folder: Path | None) -> None:
    """Write the pack's figures as JSON and Markdown into ``folder``."""
    from pytest_backdoor.files import write_atomically

    if folder is None:
        return
    manifests = [json.loads((zoo / "manifest.json").read_text()) for zoo in zoos]
    records = [record for manifest in manifests for record in manifest["networks"]]
    rejected = {
        kind: sum(record["rejected"] is not None and (record["backdoor"] is not None) == poisoned for record in records)
        for kind, poisoned in (("clean", False), ("poisoned", True))
    }
    figures = {
        **pack.built,
        "zoos": [_without_folder(manifest["plan"]) for manifest in manifests],
        "rejected": rejected,
    }
    text = json.dumps(figures, indent=1, sort_keys=True)
    write_atomically(folder / f"pack-{pack.name}.json", f"{text}\n".encode())
    write_atomically(folder / f"pack-{pack.name}.md", _as_markdown(pack, figures).encode())


def _as_markdown(pack: DetectorPack, figures: dict[str, Any]) -> str:
    rejected = figures["rejected"]
    lines = [
        f"# Detector pack {pack.name}: figures on held-out networks",
        "",
        f"Written by `{figures['command']}` (seed {figures['plan']['seed']}, torch {figures['versions']['torch']}).",
        "Test networks share no trigger and no source-target pair with those that anything was fitted on.",
        _architectures(figures["families"]),
        "",
        "| networks | clean | poisoned |",
        "| --- | --- | --- |",
        *(f"| {part} | {n['clean']} | {n['poisoned']} |" for part, n in figures["networks"].items()),
        f"| rejected (below the zoo's conditions) | {rejected['clean']} | {rejected['poisoned']} |",
        "",
        "| detector | AUC | 95 % interval | poisoned caught at p ≤ 0.005 / 0.01 / 0.05 | clean flagged at the same |",
        "| --- | --- | --- | --- | --- |",
        _row(f"litmus, M = {figures['plan']['patterns']}, {figures['plan']['pooling']}", figures["litmus"]),
        "",
        *_remarks(figures),
        "",
    ]
    return "\n".join(lines)


def _remarks(figures: dict[str, Any]) -> list[str]:
    """What else is known of the test networks."""
    tested = figures["networks"]["test"]
    lines = [f"The litmus detector's AUC on the networks that it was fitted on is {figures['litmus']['fit_auc']:.3f}."]
    if known := figures.get("recognised"):
        judged = f"{known['clean']} of {tested['clean']} clean and {known['poisoned']} of {tested['poisoned']} poisoned"
        lines.append(f"It takes {judged} test networks for ones that it can judge.")
    return lines


def _architectures(families: dict[str, list[str]]) -> str:
    fitted, calibrated = (", ".join(families[part]) for part in ("fit", "calibration"))
    return f"Architectures: fitted on {fitted}; reference scores of {calibrated}."


def _row(label: str, values: dict[str, Any]) -> str:
    levels = ("0.005", "0.01", "0.05")
    caught = " / ".join(f"{values[f'poisoned_caught_at_{level}']:.0%}" for level in levels)
    flagged = " / ".join(f"{values[f'clean_flagged_at_{level}']:.1%}" for level in levels)
    low, high = values["auc_95"]
    return f"| {label} | {values['auc']:.3f} | {low:.3f} to {high:.3f} | {caught} | {flagged} |"
