"""``python -m reference_attacks reproduce ulp``: Table 1 and Figures 4 and 5 of Universal Litmus Patterns, and more."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from ..parsing import Parsers, add_action_to, add_data_root
from .machine import machine, versions
from .scales import TASK_NAMES

TASKS = tuple(TASK_NAMES)
DESCRIPTION = """\
Build the zoos of the chosen tasks (whatever is there already is used), fit noise and pattern detectors on them, reverse
triggers as the paper's baseline does, and write Table 1, Figure 4 and Figure 5 next to the paper's numbers, with
confidence intervals over networks, as Markdown, CSV and plots. Tasks may be run one after the other: each one's results
are kept in ulp-TASK.json, and the tables show all that are there.
"""


def add_parser(actions: Parsers[argparse.ArgumentParser]) -> None:
    """Register ``reproduce ulp``."""
    ulp = add_action_to(actions, "ulp", "Universal Litmus Patterns: Table 1, Figures 4 and 5", DESCRIPTION)
    ulp.add_argument("--tasks", nargs="*", choices=TASKS, default=list(TASKS), help="default: all three")
    ulp.add_argument("--zoos", type=Path, required=True, metavar="DIR", help="folder of the zoos")
    ulp.add_argument(
        "--scale", choices=["reduced", "paper"], default="reduced", help="numbers of networks; default: %(default)s"
    )
    ulp.add_argument("--seed", type=int, default=0, metavar="N", help="default: %(default)s")
    ulp.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="processes; default: %(default)s"
    )
    add_data_root(ulp)
    ulp.add_argument("--results", type=Path, default=Path("docs/results"), metavar="DIR", help="default: %(default)s")
    ulp.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Build, measure and write. Raises ValueError, OSError or DataNotFoundError with a sentence."""
    from pytest_backdoor.files import write_atomically

    from .report import write_report

    for task in arguments.tasks:
        build_zoos(task, arguments)
        results = measure(task, arguments)
        text = json.dumps(results, indent=1)
        write_atomically(arguments.results / f"ulp-{task}.json", f"{text}\n".encode())
    if arguments.tasks:
        write_transfer(arguments)
    written = write_report(arguments.results)
    print(f"{arguments.results}: {', '.join(path.name for path in written)}")
    return 0


def build_zoos(task: str, arguments: argparse.Namespace) -> None:
    """Every zoo of a task that has networks at this scale, through ``zoo build``."""
    from ..cli import make_parser
    from .scales import zoo_commands

    for name, options in zoo_commands(task, arguments.scale).items():
        numbers = [options[options.index(option) + 1] for option in ("--clean", "--poisoned")]
        if numbers == ["0", "0"]:
            continue
        command = ["zoo", "build", *options, "--seed", str(arguments.seed), "--workers", str(arguments.workers)]
        if arguments.data_root:
            command += ["--data-root", arguments.data_root]
        parsed = make_parser().parse_args([*command, "--out", str(arguments.zoos / name)])
        parsed.run(parsed)


def write_transfer(arguments: argparse.Namespace) -> None:
    """Test a detector on tasks that it never saw, where the folder holds the zoos of at least two tasks."""
    from pytest_backdoor.files import write_atomically

    from ..detectors.invariant import InvariantPlan
    from ..detectors.litmus import PatternPlan
    from .transfer import TransferPlans, measure_transfer

    present = [task for task in TASKS if (arguments.zoos / task / "manifest.json").exists()]
    if len(present) < 2:
        return
    print(f"{', '.join(present)}: unseen tasks", flush=True)
    plans = TransferPlans(invariant=InvariantPlan(seed=arguments.seed), shared=PatternPlan(seed=arguments.seed))
    rows = measure_transfer(present, arguments.zoos, plans)
    write_atomically(arguments.results / "ulp-transfer.json", f"{json.dumps(rows, indent=1)}\n".encode())


def measure(task: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """The results of one task, and what they were measured with."""
    from .experiments import TaskExperiments
    from .scales import SIZES

    experiments = TaskExperiments(
        task,
        arguments.zoos,
        seed=arguments.seed,
        workers=arguments.workers,
        reversed_networks=SIZES[arguments.scale, task].reversed_networks,
    )
    results = experiments.run(lambda part: print(f"{task}: {part}", flush=True))
    return {
        "command": f"python -m reference_attacks reproduce ulp --tasks {task} --scale {arguments.scale} "
        f"--seed {arguments.seed} --zoos zoos",
        "machine": machine(),
        "versions": versions(),
        **results,
    }
