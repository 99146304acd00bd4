"""The tables and plots of ``reproduce ulp``, from the results of every task that has been measured."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pytest_backdoor.files import write_atomically

from .scales import TASK_NAMES

Result = dict[str, Any]
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
        _false_positives(results),
        _sizes(results),
        _ratios(results),
        _families(results),
        _variants(results),
        _changes(results),
        _unseen(unseen),
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
            _percent(zoo["clean"]["clean_accuracy"]),
            f"{zoo['poisoned']['kept']} ({zoo['poisoned']['rejected']})",
            _percent(zoo["poisoned"]["clean_accuracy"]),
            _percent(zoo["poisoned"]["attack_success"]),
        ]
        for result in results.values()
        for name, zoo in result["networks"].items()
    ]
    head = ["zoo", "architectures", "clean (rejected)", "accuracy", "poisoned (rejected)", "accuracy", "attack success"]
    paper = "; ".join(f"{TASK_NAMES[task]} {a:.1%} and {s:.1%}" for task, (a, s) in PAPER_NETWORKS.items())
    return f"## Networks\n\n{_table(head, rows)}\n\nThe paper's clean accuracy and attack success: {paper}."


def _table_1(results: dict[str, Result]) -> str:
    methods = list(dict.fromkeys(name for result in results.values() for name in result["methods"]))
    rows = []
    for method in methods:
        cells = [method]
        for task, result in results.items():
            paper = paper_auc(method, task)
            cells += [_auc(result["methods"].get(method)), "–" if paper is None else f"{paper:.2f}"]
        rows.append(cells)
    head = ["detector", *(cell for task in results for cell in (f"{TASK_NAMES[task]} AUC", "paper"))]
    return f"## Table 1: area under the ROC curve\n\n{_table(head, rows)}\n\n![ROC curves](ulp-figure-5.png)"


def _caught(results: dict[str, Result]) -> str:
    rows = [
        [
            TASK_NAMES[task],
            name,
            _percent(figures["poisoned_caught_at_0.01"]),
            _percent(figures["clean_flagged_at_0.01"]),
        ]
        for task, result in results.items()
        for name, figures in result["methods"].items()
        if "poisoned_caught_at_0.01" in figures
    ]
    head = ["task", "detector", "poisoned caught", "clean flagged"]
    return f"## At 1 % false positives (conformal p ≤ 0.01)\n\n{_table(head, rows)}" if rows else ""


def _false_positives(results: dict[str, Result]) -> str:
    lines = []
    for task, result in results.items():
        found = result["false_positives"]
        if found:
            low, high = found["interval_95"]
            lines.append(
                f"{TASK_NAMES[task]}, {_detector(found)}: {found['flagged']} of {found['clean']} clean networks that "
                f"were in no part of the fit have p ≤ 0.01 against {found['reference']} reference networks (95 % "
                f"interval {low:.1%} to {high:.1%})."
            )
        if named := result.get("targets"):
            lines.append(
                f"{TASK_NAMES[task]}, {_detector(named)}: the class that deviates most is the target in "
                f"{named['right']} of {named['networks']} poisoned networks; by chance it would be in one of "
                f"{result['classes']}."
            )
    return "\n\n".join(lines)


def _sizes(results: dict[str, Result]) -> str:
    rows = [
        [TASK_NAMES[task], _detector(row), str(row["networks"]), _auc(row)]
        for task, result in results.items()
        for row in result["zoo_sizes"]
    ]
    head = ["task", "detector", "networks fitted on", "AUC"]
    return f"## AUC as a function of zoo size\n\n{_table(head, rows)}"


def _ratios(results: dict[str, Result]) -> str:
    rows = [
        [
            TASK_NAMES[task],
            f"{row['ratio']:.0%}",
            _percent(row["attack_success"]),
            _auc(row["noise"]),
            _auc(row["patterns"]),
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
    return f"## Figure 4: weaker attacks\n\n{_table(head, rows)}\n\n{note}\n\n![Figure 4](ulp-figure-4.png)"


def _families(results: dict[str, Result]) -> str:
    rows = [
        [
            TASK_NAMES[task],
            _detector(row),
            row["family"],
            _percent(row["clean_accuracy"]),
            _auc(row["fitted_on_main"]),
            _auc(row["fitted_on_others"]),
            _recognised(row),
        ]
        for task, result in results.items()
        for row in result["families"]
    ]
    head = [
        "task",
        "detector",
        "tested on",
        "accuracy",
        "fitted on the main architecture",
        "fitted on all others",
        "judged by the check",
    ]
    note = (
        "The check does not judge a network whose answers to the prototype images of a pack of the main architecture "
        "are unlike those of its clean networks: such a model is not assessed, which the gate does not let through."
    )
    return f"## Architectures that were not fitted on\n\n{_table(head, rows)}\n\n{note}" if rows else ""


def _recognised(row: Result) -> str:
    if "recognised" not in row:
        return "–"
    known, tested = row["recognised"], row["fitted_on_main"]
    return f"{known['clean'] + known['poisoned']} of {tested['clean'] + tested['poisoned']}"


def _variants(results: dict[str, Result]) -> str:
    rows = [
        [
            TASK_NAMES[task],
            _detector(row),
            row["goal"],
            row["trigger"],
            _auc(row),
            _percent(row.get("poisoned_caught_at_0.01")),
        ]
        for task, result in results.items()
        for row in result["variants"]
    ]
    head = ["task", "detector", "goal", "trigger", "AUC", "caught at p ≤ 0.01"]
    title = "## Attacks that were not fitted on (fitted on source-target, patch5)"
    return f"{title}\n\n{_table(head, rows)}" if rows else ""


def _changes(results: dict[str, Result]) -> str:
    rows = [
        [
            TASK_NAMES[task],
            _detector(row),
            row["change"],
            _auc(row),
            _percent(row.get("poisoned_caught_at_0.01")),
            _percent(row.get("clean_flagged_at_0.01")),
        ]
        for task, result in results.items()
        for row in result["changes"]
    ]
    head = ["task", "detector", "change", "AUC", "poisoned caught at p ≤ 0.01", "clean flagged"]
    return f"## Networks changed after training\n\n{_table(head, rows)}"


def _unseen(unseen: Sequence[Result]) -> str:
    rows = [
        [
            TASK_NAMES[row["task"]],
            ", ".join(TASK_NAMES[task] for task in row["fitted_on"]),
            name,
            str(row["unseen"]["measure"]) if name == "class-symmetric" else "none",
            _auc(row["unseen"][name]),
            _auc(row["seen"][name]),
        ]
        for row in unseen
        for name in ("invariant", "class-symmetric")
    ]
    head = [
        "tested on",
        "fitted on",
        "detector",
        "clean networks of the task",
        "AUC, unseen task",
        "AUC, all fitted on",
    ]
    note = (
        "One set of ten 32x32 patterns for all tasks. The invariant detector's features depend on no class; the "
        "class-symmetric one measures by clean networks of the task that it is tested on, and has seen no poisoned one."
    )
    return f"## Tasks that were not fitted on\n\n{_table(head, rows)}\n\n{note}" if rows else ""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _auc(figures: Result | None) -> str:
    if figures is None:
        return "–"
    low, high = figures["auc_95"]
    return f"{figures['auc']:.3f} ({low:.3f} to {high:.3f}), n = {figures['clean']} + {figures['poisoned']}"


def _detector(row: Result) -> str:
    """Which detector a row is about: the paper's where it does not say."""
    name: str = row.get("detector", "patterns, M = 10")
    return name


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"
