"""``python -m reference_attacks detection``: what the audit says about models with known backdoors."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...parsing import add_action_to, add_data_root, add_subcommand
from ...reproduce.machine import machine, versions
from .. import crops_command, references_command
from ..training_data import command as training_data_command

if TYPE_CHECKING:
    from .groups import Group

DESCRIPTION = """\
Scan models with known backdoors, and clean ones, and write one matrix: a row for every attack, a column for every
check, in each cell how many are caught at a false-positive rate of 1 %. A TOML file names the groups of models:

  [[group]]
  name = "digits"
  title = "BadNets on digits"
  folders = ["runs/digits"]    # ONNX files or safetensors with NAME.json beside them, or zoos; relative to --root
  samples = "mnist"            # a task, or a folder or .npz of clean images; for detectors: photographs
  pack = "pack.npz"            # unless a shipped one fits
  kind = "classifier"          # or "detector"
  note = "Made-up images."     # a remark for the report

The command can be interrupted and goes on where it stopped; folders that are not there yet count as empty.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register ``detection matrix``, ``references``, ``crops`` and ``training-data``."""
    actions = add_subcommand(subparsers, "detection", "what the audit catches")
    matrix = add_action_to(actions, "matrix", "scan models with known backdoors and write a table", DESCRIPTION)
    matrix.add_argument("--groups", type=Path, required=True, metavar="TOML", help="the file that names the groups")
    matrix.add_argument(
        "--root", type=Path, default=Path(), metavar="DIR", help="folder that its paths are relative to; default: here"
    )
    matrix.add_argument("--work", type=Path, required=True, metavar="DIR", help="where findings are kept")
    matrix.add_argument("--out", type=Path, required=True, metavar="FILE", help="the .md file; a .json is written too")
    matrix.add_argument("--only", nargs="+", metavar="NAME", help="scan these groups alone; others as they are known")
    matrix.add_argument("--workers", type=int, default=1, metavar="N", help="processes; default: %(default)s")
    matrix.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the scans; default: %(default)s")
    add_data_root(matrix)
    matrix.set_defaults(run=run)
    references_command.add_parser(actions)
    crops_command.add_parser(actions)
    training_data_command.add_parser(actions)


def run(arguments: argparse.Namespace) -> int:
    """Scan and write. Raises ValueError, OSError, DataNotFoundError or SettingsError with a sentence."""
    from pytest_backdoor.files import write_atomically

    from .groups import read_groups
    from .text import as_markdown

    if arguments.out.suffix != ".md":
        raise ValueError(f"{arguments.out} must be a .md file; the figures go to a .json file beside it.")
    groups = read_groups(arguments.groups)
    unknown = sorted(set(arguments.only or ()) - {group.name for group in groups})
    if unknown:
        raise ValueError(f"{arguments.groups} names no group {unknown[0]!r}.")
    recorded = arguments.out.with_suffix(".json")
    before = json.loads(recorded.read_text(encoding="utf-8"))["groups"] if recorded.exists() else []
    known = {entry["name"]: entry for entry in before}
    found = []
    for group in groups:
        if not arguments.only or group.name in arguments.only:
            found.append(_measured(group, arguments))
        elif group.name in known:
            found.append(known[group.name])
    results = {"command": _command(arguments), "machine": machine(), "versions": versions(), "groups": found}
    write_atomically(recorded, f"{json.dumps(results, indent=1)}\n".encode())
    write_atomically(arguments.out, as_markdown(results).encode())
    print(f"{arguments.out}: {sum(len(entry['models']) for entry in found)} models")
    return 0


def _measured(group: Group, arguments: argparse.Namespace) -> dict[str, Any]:
    from .groups import find_models
    from .judging import count_rows, references_of
    from .measuring import Scanning, measure_group

    root = arguments.root.resolve()
    models = find_models(group, root)
    scanning = Scanning(
        group=group, root=root, work=arguments.work.resolve(), data_root=arguments.data_root, seed=arguments.seed
    )
    found = measure_group(scanning, models, workers=arguments.workers)
    references = [references_of(group, root, record) for record in found]
    return {
        "name": group.name,
        "title": group.title,
        "kind": group.kind,
        "samples": None if group.samples is None else Path(group.samples).name,
        "note": group.note,
        "rows": count_rows(models, found, references),
        "models": [
            {
                "name": model.name,
                "attack": model.row.attack,
                "success": model.row.success,
                "target": model.row.target,
                "ways": record["ways"],
            }
            for model, record in zip(models, found, strict=True)
        ],
    }


def _command(arguments: argparse.Namespace) -> str:
    return (
        f"python -m reference_attacks detection matrix --groups {arguments.groups.name} --seed {arguments.seed} "
        f"--work matrix --out {arguments.out.name}"
    )
