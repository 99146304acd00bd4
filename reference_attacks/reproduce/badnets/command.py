"""``python -m reference_attacks reproduce badnets``: tables and figures of BadNets (2019)."""

from __future__ import annotations

import argparse
import os
import shlex
from pathlib import Path

from ...parsing import Parsers, add_action_to, add_data_root
from ..machine import machine, versions
from .catalogue import MODULES, numbers
from .parts import Settings, Values

DESCRIPTION = """\
Train the networks that a table or figure of the paper needs (those that are in --work already are used), measure them,
and write the numbers beside the paper's, with a plot where the paper has one. A run that was interrupted goes on where
it stopped. Every part that is in --results appears in badnets.md.
"""


def add_parser(actions: Parsers[argparse.ArgumentParser]) -> None:
    """Register ``reproduce badnets``."""
    about = "BadNets: digits, traffic signs, transfer learning"
    parser = add_action_to(actions, "badnets", about, DESCRIPTION)
    for kind in ("table", "figure"):
        parser.add_argument(
            f"--{kind}",
            type=int,
            nargs="+",
            choices=numbers(kind),
            default=[],
            metavar="N",
            help=f"{kind}s {', '.join(map(str, numbers(kind)))}; default: all tables and figures",
        )
    parser.add_argument("--small", action="store_true", help="the reduced variant: ten minutes on two cores at most")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="folder of the trained networks")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="processes; default: %(default)s"
    )
    add_data_root(parser)
    parser.add_argument(
        "--results", type=Path, default=Path("docs/results"), metavar="DIR", help="default: %(default)s"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure and write part by part. Raises ValueError, OSError or DataNotFoundError with a sentence."""
    from .report import write_part, write_report

    if arguments.workers < 1:
        raise ValueError("There must be at least one worker.")
    for part in chosen_parts(arguments):
        written = write_part(arguments.results, part, measure(part, arguments), small=arguments.small)
        report = write_report(arguments.results, small=arguments.small)
        print(f"{part}: {', '.join(path.name for path in [*written, report])}", flush=True)
    return 0


def chosen_parts(arguments: argparse.Namespace) -> list[str]:
    """The parts that were asked for, all of them where none was named, in the paper's order."""
    asked = {f"table-{number}" for number in arguments.table} | {f"figure-{number}" for number in arguments.figure}
    return [part for part in MODULES if part in asked or not asked]


def measure(part: str, arguments: argparse.Namespace) -> Values:
    """The values of one part, and what they were measured with."""
    from .catalogue import find_part

    settings = Settings(
        seed=arguments.seed,
        small=arguments.small,
        workers=arguments.workers,
        work=arguments.work,
        data_root=arguments.data_root,
        say=lambda text: print(f"{part}: {text}", flush=True),
    )
    return {
        "command": command_of(part, arguments),
        "machine": machine(),
        "versions": versions(),
        "results": find_part(part).measure(settings),
    }


def command_of(part: str, arguments: argparse.Namespace) -> str:
    """The command that measures this part alone; it names no folder of this machine."""
    kind, number = part.split("-")
    words = ["python", "-m", "reference_attacks", "reproduce", "badnets", f"--{kind}", number]
    if arguments.small:
        words.append("--small")
    return shlex.join([*words, "--seed", str(arguments.seed), "--work", arguments.work.name])
