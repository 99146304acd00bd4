"""The tables and plots of ``reproduce ulp``, from the results of every task that has been measured."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path

from pytest_backdoor.files import write_atomically

from . import beyond
from .scales import TASK_NAMES
from .tables import Result, auc, percent, table

TASKS = tuple(TASK_NAMES)
# Universal Litmus Patterns, Table 1.
PAPER_NETWORKS = {"mnist": (0.994, 1.0), "cifar10": (0.795, 0.999), "gtsrb": (0.992, 0.972)}
PAPER_AUC = {
    "noise, M = 1": (0.94, 0.62, 0.61),
    "noise, M = 5": (0.90, 0.68, 0.59),
    "noise, M = 10": (0.86, 0.59, 0.54),
    "trigger reversal": (0.94, 0.59, 0.74),
    "patterns, M = 1": (0.94, 0.68, 0.75),
    "patterns, M = 5": (0.99, 0.99, 0.88),
    "patterns, M = 10": (1.00, 1.00, 0.90),
}


def write_report(folder: Path) -> list[Path]:
    """Write ulp.md, ulp.csv and the figures from the ``ulp-TASK.json`` in ``folder``; returns their paths.

    Raises ValueError if there is none.
    """
    from .plots import draw_ratios, draw_roc

    results = {task: json.loads(path.read_text()) for task in TASKS if (path := folder / f"ulp-{task}.json").exists()}
    if not results:
        raise ValueError(f"{folder} holds no results (ulp-TASK.json); name tasks to measure.")
    transfer = folder / "ulp-transfer.json"
    unseen = json.loads(transfer.read_text()) if transfer.exists() else []
    files = {"ulp.md": as_markdown(results, unseen).encode(), "ulp.csv": as_csv(results).encode()}
    files["ulp-figure-5.png"] = draw_roc(results)
    if any(len(result["ratios"]) > 1 for result in results.values()):
        files["ulp-figure-4.png"] = draw_ratios(results)
    for name, content in files.items():
        write_atomically(folder / name, content)
    return [folder / name for name in files]


def as_csv(results: dict[str, Result]) -> str:
    """Table 1 in long form, one line for each task and detector."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["task", "detector", "auc", "auc_low", "auc_high", "clean", "poisoned", "auc_paper"])
    for task, result in results.items():
        for name, figures in result["methods"].items():
            row = [task, name, figures["auc"], *figures["auc_95"], figures["clean"], figures["poisoned"]]
            writer.writerow([*row, paper_auc(name, task) or ""])
    return text.getvalue()


def paper_auc(method: str, task: str) -> float | None:
    """What Table 1 of the paper says, None for what is not in it."""
    return PAPER_AUC[method][TASKS.index(task)] if method in PAPER_AUC else None


def as_markdown(results: dict[str, Result], unseen: Sequence[Result] = ()) -> str:
    """All tables. ``unseen``: what ``measure_transfer`` found on tasks that detectors never saw."""
    sections = [
        _head(results),
        _networks(results),
        _table_1(results),
        _caught(results),
        beyond.false_positives(results),
        beyond.zoo_sizes(results),
        _ratios(results),
        beyond.families(results),
        beyond.variants(results),
        beyond.changes(results),
        beyond.unseen_tasks(unseen),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def _head(results: dict[str, Result]) -> str:
    lines = [
        "# Universal Litmus Patterns, reproduced",
        "",
        "Held-out networks throughout: their triggers and source-target pairs occur in no network that anything was",
        "fitted on. Intervals are 95 % bootstrap intervals over networks. Written by:",
        "",
        *(
            f"- `{result['command']}` ({result['machine']}, torch {result['versions']['torch']})"
            for result in results.values()
        ),
    ]
    return "\n".join(lines)


def _networks(results: dict[str, Result]) -> str:
    rows = [
        [
            name,
            ", ".join(zoo["families"]),
            f"{zoo['clean']['kept']} ({zoo['clean']['rejected']})",
            percent(zoo["clean"]["clean_accuracy"]),
            f"{zoo['poisoned']['kept']} ({zoo['poisoned']['rejected']})",
            percent(zoo["poisoned"]["clean_accuracy"]),
            percent(zoo["poisoned"]["attack_success"]),
        ]
        for result in results.values()
        for name, zoo in result["networks"].items()
    ]
    head = ["zoo", "architectures", "clean (rejected)", "accuracy", "poisoned (rejected)", "accuracy", "attack success"]
    paper = "; ".join(f"{TASK_NAMES[task]} {a:.1%} and {s:.1%}" for task, (a, s) in PAPER_NETWORKS.items())
    return f"## Networks\n\n{table(head, rows)}\n\nThe paper's clean accuracy and attack success: {paper}."


def _table_1(results: dict[str, Result]) -> str:
    methods = list(dict.fromkeys(name for result in results.values() for name in result["methods"]))
    rows = []
    for method in methods:
        cells = [method]
        for task, result in results.items():
            paper = paper_auc(method, task)
            cells += [auc(result["methods"].get(method)), "–" if paper is None else f"{paper:.2f}"]
        rows.append(cells)
    head = ["detector", *(cell for task in results for cell in (f"{TASK_NAMES[task]} AUC", "paper"))]
    return f"## Table 1: area under the ROC curve\n\n{table(head, rows)}\n\n![ROC curves](ulp-figure-5.png)"


def _caught(results: dict[str, Result]) -> str:
    rows = [
        [
            TASK_NAMES[task],
            name,
            percent(figures["poisoned_caught_at_0.01"]),
            percent(figures["clean_flagged_at_0.01"]),
        ]
        for task, result in results.items()
        for name, figures in result["methods"].items()
        if "poisoned_caught_at_0.01" in figures
    ]
    head = ["task", "detector", "poisoned caught", "clean flagged"]
    return f"## At 1 % false positives (conformal p ≤ 0.01)\n\n{table(head, rows)}" if rows else ""


def _ratios(results: dict[str, Result]) -> str:
    rows = [
        [
            TASK_NAMES[task],
            f"{row['ratio']:.0%}",
            percent(row["attack_success"]),
            auc(row["noise"]),
            auc(row["patterns"]),
        ]
        for task, result in results.items()
        if len(result["ratios"]) > 1
        for row in result["ratios"]
    ]
    if not rows:
        return ""
    head = ["task", "ratio", "attack success", "noise, M = 5", "patterns, M = 5"]
    note = (
        "Networks are kept whatever their attack success. The detectors are those fitted at 50 %, which is harder than "
        "fitting new ones for each ratio."
    )
    return f"## Figure 4: weaker attacks\n\n{table(head, rows)}\n\n{note}\n\n![Figure 4](ulp-figure-4.png)"
