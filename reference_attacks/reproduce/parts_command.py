"""The command line of a paper that is reproduced part by part: ``python -m reference_attacks reproduce NAME``."""

from __future__ import annotations

import argparse
import os
import shlex
from functools import partial
from pathlib import Path

from ..parsing import Parsers, add_action_to, add_data_root
from .machine import machine, versions
from .parts import KINDS, Paper, Settings, Values


def add_paper(
    actions: Parsers[argparse.ArgumentParser], paper: Paper, about: str, description: str
) -> argparse.ArgumentParser:
    """Register ``reproduce`` with the paper's name, and return its parser."""
    parser = add_action_to(actions, paper.name, about, description)
    _add_parts(parser, paper)
    parser.add_argument("--small", action="store_true", help="the reduced variant: ten minutes on two cores at most")
    if paper.in_part:
        parser.add_argument(
            "--no-training", action="store_true", help="report what --work holds, and leave out what is not there yet"
        )
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="folder of the trained networks")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="processes; default: %(default)s"
    )
    add_data_root(parser)
    parser.add_argument(
        "--results", type=Path, default=Path("docs/results"), metavar="DIR", help="default: %(default)s"
    )
    parser.set_defaults(run=partial(run, paper))
    return parser


def _add_parts(parser: argparse.ArgumentParser, paper: Paper) -> None:
    kinds = [kind for kind in KINDS if paper.numbers(kind)]
    everything = " and ".join([f"all {kind}s" for kind in kinds]) if not paper.words() else "all parts"
    for kind in kinds:
        parser.add_argument(
            f"--{kind}",
            type=int,
            nargs="+",
            choices=paper.numbers(kind),
            default=[],
            metavar="N",
            help=f"{kind}s {', '.join(map(str, paper.numbers(kind)))}; default: {everything}",
        )
    for word in paper.words():
        parser.add_argument(f"--{word}", action="store_true", help=f"the part {word}; default: {everything}")


def run(paper: Paper, arguments: argparse.Namespace) -> int:
    """Measure and write part by part. Raises ValueError, OSError or DataNotFoundError with a sentence."""
    from .parts_report import write_part, write_report

    if arguments.workers < 1:
        raise ValueError("There must be at least one worker.")
    for part in chosen_parts(paper, arguments):
        measured = measure(paper, part, arguments)
        written = write_part(paper, arguments.results, part, measured, small=arguments.small)
        report = write_report(paper, arguments.results, small=arguments.small)
        print(f"{part}: {', '.join(path.name for path in [*written, report])}", flush=True)
    return 0


def chosen_parts(paper: Paper, arguments: argparse.Namespace) -> list[str]:
    """The parts that were asked for, all of them where none was named, in the paper's order."""
    asked = {f"{kind}-{number}" for kind in KINDS for number in getattr(arguments, kind, [])}
    asked |= {word for word in paper.words() if getattr(arguments, word.replace("-", "_"))}
    return [part for part in paper.modules if part in asked or not asked]


def measure(paper: Paper, part: str, arguments: argparse.Namespace) -> Values:
    """The values of one part, and what they were measured with."""
    settings = Settings(
        seed=arguments.seed,
        small=arguments.small,
        workers=arguments.workers,
        work=arguments.work,
        data_root=arguments.data_root,
        say=lambda text: print(f"{part}: {text}", flush=True),
        training=not getattr(arguments, "no_training", False),
    )
    return {
        "command": command_of(paper, part, arguments),
        "machine": machine(),
        "versions": versions(),
        "results": paper.find_part(part).measure(settings),
    }


def command_of(paper: Paper, part: str, arguments: argparse.Namespace) -> str:
    """The command that measures this part alone; it names no folder of this machine."""
    option = [f"--{part}"] if part in paper.words() else [f"--{part.split('-')[0]}", part.split("-")[1]]
    words = ["python", "-m", "reference_attacks", "reproduce", paper.name, *option]
    if arguments.small:
        words.append("--small")
    if getattr(arguments, "no_training", False):
        words.append("--no-training")
    return shlex.join([*words, "--seed", str(arguments.seed), "--work", arguments.work.name])
