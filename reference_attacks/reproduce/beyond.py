"""The tables of ``reproduce ulp`` on what is not in Universal Litmus Patterns, as Markdown sections."""

from __future__ import annotations

from collections.abc import Sequence

from .scales import TASK_NAMES
from .tables import Result, auc, detector, percent, table


def false_positives(results: dict[str, Result]) -> str:
    """Clean networks that were flagged."""
    lines = []
    for task, result in results.items():
        found = result["false_positives"]
        if found:
            low, high = found["interval_95"]
            lines.append(
                f"{TASK_NAMES[task]}, {detector(found)}: {found['flagged']} of {found['clean']} clean networks that "
                f"were in no part of the fit have p ≤ 0.01 against {found['reference']} reference networks (95 % "
                f"interval {low:.1%} to {high:.1%})."
            )
    return "\n\n".join(lines)


def zoo_sizes(results: dict[str, Result]) -> str:
    """AUC by the number of networks fitted on."""
    rows = [
        [TASK_NAMES[task], detector(row), str(row["networks"]), auc(row)]
        for task, result in results.items()
        for row in result["zoo_sizes"]
    ]
    head = ["task", "detector", "networks fitted on", "AUC"]
    return f"## AUC as a function of zoo size\n\n{table(head, rows)}"


def families(results: dict[str, Result]) -> str:
    """Networks of other architectures."""
    rows = [
        [
            TASK_NAMES[task],
            detector(row),
            row["family"],
            percent(row["clean_accuracy"]),
            auc(row["fitted_on_main"]),
            auc(row["fitted_on_others"]),
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
    return f"## Architectures that were not fitted on\n\n{table(head, rows)}\n\n{note}" if rows else ""


def _recognised(row: Result) -> str:
    if "recognised" not in row:
        return "–"
    known = row["recognised"]
    return f"{known['clean'] + known['poisoned']} of {row['tested']}"


def variants(results: dict[str, Result]) -> str:
    """Other goals and triggers."""
    rows = [
        [
            TASK_NAMES[task],
            detector(row),
            row["goal"],
            row["trigger"],
            auc(row),
            percent(row.get("poisoned_caught_at_0.01")),
        ]
        for task, result in results.items()
        for row in result["variants"]
    ]
    head = ["task", "detector", "goal", "trigger", "AUC", "caught at p ≤ 0.01"]
    title = "## Attacks that were not fitted on (fitted on source-target, patch5)"
    return f"{title}\n\n{table(head, rows)}" if rows else ""


def changes(results: dict[str, Result]) -> str:
    """Networks that were pruned, quantised or trained further."""
    rows = [
        [
            TASK_NAMES[task],
            detector(row),
            row["change"],
            auc(row),
            percent(row.get("poisoned_caught_at_0.01")),
            percent(row.get("clean_flagged_at_0.01")),
        ]
        for task, result in results.items()
        for row in result["changes"]
    ]
    head = ["task", "detector", "change", "AUC", "poisoned caught at p ≤ 0.01", "clean flagged"]
    return f"## Networks changed after training\n\n{table(head, rows)}"


def unseen_tasks(unseen: Sequence[Result]) -> str:
    """What ``measure_transfer`` found on tasks that detectors never saw."""
    rows = [
        [
            TASK_NAMES[row["task"]],
            ", ".join(TASK_NAMES[task] for task in row["fitted_on"]),
            name,
            str(row["unseen"]["measure"]) if name == "class-symmetric" else "none",
            auc(row["unseen"][name]),
            auc(row["seen"][name]),
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
    return f"## Tasks that were not fitted on\n\n{table(head, rows)}\n\n{note}" if rows else ""
