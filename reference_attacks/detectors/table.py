"""``python -m reference_attacks detection table``: what the audit says about models with known backdoors."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..parsing import add_action, add_data_root

if TYPE_CHECKING:
    from pytest_backdoor.findings import ModelReport

DESCRIPTION = """\
Scan every ONNX file of the folders that has a model card (NAME.json, as badnet writes it) beside it, once without
clean samples and once with real digits, and write one table of verdicts, p-values and reversed triggers.
"""
FIRST_SAMPLE, SAMPLES = 1000, 1000
BEHAVIOURAL = ("litmus", "margin", "reversal")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register ``detection table``."""
    table = add_action(
        subparsers,
        ("detection", "what the audit catches"),
        ("table", "scan models with known backdoors and write a table"),
        DESCRIPTION,
    )
    table.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="folders of ONNX files with model cards")
    table.add_argument("--out", type=Path, required=True, metavar="FILE", help="the .md file; a .json is written too")
    table.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the scans; default: %(default)s")
    add_data_root(table)
    table.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Scan and write. Raises ValueError, OSError or DataNotFoundError with a sentence."""
    from rich.progress import track

    from pytest_backdoor.files import write_atomically

    paths = [path for folder in arguments.folders for path in sorted(folder.glob("*.onnx"))]
    paths = [path for path in paths if path.with_suffix(".json").is_file()]
    if not paths:
        raise ValueError("The folders hold no ONNX file with a model card beside it.")
    with tempfile.TemporaryDirectory() as scratch:
        samples = _write_samples(Path(scratch) / "samples.npz", arguments.data_root)
        rows = [_row(path, samples, arguments.seed) for path in track(paths, description="Scanning models")]
    results = {"command": _command(arguments), "samples": SAMPLES, "models": rows}
    write_atomically(arguments.out.with_suffix(".json"), f"{json.dumps(results, indent=1)}\n".encode())
    write_atomically(arguments.out, as_markdown(results).encode())
    print(f"{arguments.out}: {len(rows)} models")
    return 0


def _command(arguments: argparse.Namespace) -> str:
    folders = " ".join(folder.name for folder in arguments.folders)
    return f"python -m reference_attacks detection table {folders} --seed {arguments.seed} --out {arguments.out.name}"


def _write_samples(path: Path, root: str | None) -> str:
    import numpy as np

    from ..data import load_mnist

    test = load_mnist(root, train=False)
    part = slice(FIRST_SAMPLE, FIRST_SAMPLE + SAMPLES)
    np.savez(path, x=test.images[part, 0].numpy(), y=test.labels[part].numpy())
    return str(path)


def _row(path: Path, samples: str, seed: int) -> dict[str, Any]:
    from pytest_backdoor import scan

    card = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    scans = {
        name: scan(path, checks=BEHAVIOURAL, seed=seed, data=data).models[0]
        for name, data in (("without samples", None), ("with samples", samples))
    }
    return {
        "model": path.stem,
        "backdoor": card["backdoor"],
        "clean_accuracy": card["measured"]["clean_accuracy"],
        "attack_success": card["measured"]["attack_success"] if card["backdoor"] else None,
        **{name: _summary(report) for name, report in scans.items()},
    }


def _summary(report: ModelReport) -> dict[str, Any]:
    findings = {finding.check: finding for finding in report.findings}
    reversal = findings["reversal"].evidence
    return {
        "verdict": report.verdict.value,
        "p_values": {name: findings[name].p_value for name in BEHAVIOURAL},
        "outcomes": {name: findings[name].outcome.value for name in BEHAVIOURAL},
        "target_class": reversal.get("target_class"),
        "family": reversal.get("family"),
        "mask_size": reversal.get("mask_size"),
        "seconds": round(report.seconds, 1),
    }


def as_markdown(results: dict[str, Any]) -> str:
    """The table: one line for each model and way of scanning."""
    head = f"Written by `{results['command']}`. A check fails at p ≤ 0.01; all are judged jointly."
    columns = (
        "model",
        "clean accuracy",
        "attack success",
        "scan",
        "verdict",
        *(f"{check} p" for check in BEHAVIOURAL),
        "trigger",
        "pixels",
        "target",
    )
    lines = [
        "# What the audit says about models with known backdoors",
        "",
        f"{head} Samples: {results['samples']} test digits that no network was trained on. Trigger, pixels and target:",
        "of the trigger that stands out most, shrunk as far as it still works.",
        "",
        _line(columns),
        _line(["---"] * len(columns)),
    ]
    lines += [_line(_cells(model, name)) for model in results["models"] for name in ("without samples", "with samples")]
    return "\n".join([*lines, ""])


def _cells(model: dict[str, Any], name: str) -> list[str]:
    found = model[name]
    return [
        model["model"],
        _share(model["clean_accuracy"]),
        _share(model["attack_success"]),
        name,
        found["verdict"],
        *(_number(found["p_values"][check]) for check in BEHAVIOURAL),
        found["family"] or "–",
        _number(found["mask_size"]),
        "–" if found["target_class"] is None else str(found["target_class"]),
    ]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.2%}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2g}"
