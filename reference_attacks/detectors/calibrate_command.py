"""``python -m reference_attacks litmus calibrate``: reference scores of every behavioural check for a pack."""

from __future__ import annotations

import argparse
import json
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING

from ..parsing import add_action_to

if TYPE_CHECKING:
    from ..parsing import Parsers
    from ..zoo.store import Zoo
    from .calibrate import Work

FAMILIES_WITHOUT_SAMPLES = ("patch",)

DESCRIPTION = """\
Compute the reference scores that a detector pack judges by: of the litmus patterns, of maximum margins and of trigger
reversal, with clean samples and without, on the clean calibration networks of its zoos. Then judge the test networks of
these zoos, and of further ones that are only tested on, and write what was caught and what was flagged. The command can
be interrupted and goes on where it stopped.
"""


def add_parser(actions: Parsers[argparse.ArgumentParser]) -> None:
    """Register ``litmus calibrate``."""
    parser = add_action_to(actions, "calibrate", "reference scores of all behavioural checks for a pack", DESCRIPTION)
    parser.add_argument("--pack", type=Path, required=True, metavar="PACK", help="the pack to take the patterns from")
    parser.add_argument(
        "--zoo", type=Path, required=True, action="append", metavar="DIR", help="folder of a zoo; may be repeated"
    )
    parser.add_argument(
        "--test-zoo", type=Path, default=[], action="append", metavar="DIR", help="a zoo that is only tested on"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="PACK", help="the pack to write, a .npz file")
    parser.add_argument(
        "--results", type=Path, metavar="DIR", help="folder for the figures (reversal-NAME.json, reversal-NAME.md)"
    )
    add_work(parser)
    parser.set_defaults(run=run)


def add_work(parser: argparse.ArgumentParser) -> None:
    """Options on how networks are measured."""
    from pytest_backdoor.settings import DEFAULT_FAMILIES, TRIGGER_FAMILIES

    parser.add_argument(
        "--families",
        nargs="*",
        choices=list(TRIGGER_FAMILIES),
        default=list(DEFAULT_FAMILIES),
        metavar="NAME",
        help=f"trigger families, of {', '.join(TRIGGER_FAMILIES)}; default: {' '.join(DEFAULT_FAMILIES)}",
    )
    parser.add_argument(
        "--families-without-samples",
        nargs="*",
        choices=list(TRIGGER_FAMILIES),
        default=list(FAMILIES_WITHOUT_SAMPLES),
        metavar="NAME",
        help=f"those that are sought on the pack's made-up images; default: {' '.join(FAMILIES_WITHOUT_SAMPLES)}; none "
        "leaves reversal out there",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="processes; default: %(default)s"
    )


def default_work(workers: int, seed: int) -> Work:
    """All default families on samples, patches where there are none."""
    from pytest_backdoor.settings import DEFAULT_FAMILIES

    from .calibrate import Work

    return Work(
        families={"samples": DEFAULT_FAMILIES, "prototypes": FAMILIES_WITHOUT_SAMPLES}, workers=workers, seed=seed
    )


def work_of(arguments: argparse.Namespace) -> Work:
    """How networks are measured, as the options say."""
    from .calibrate import Work

    return Work(
        families={
            kind: tuple(families)
            for kind, families in (
                ("samples", arguments.families),
                ("prototypes", arguments.families_without_samples),
            )
            if families
        },
        workers=arguments.workers,
        seed=arguments.seed,
    )


def run(arguments: argparse.Namespace) -> int:
    """Measure, calibrate, judge and write. Raises ValueError, OSError or SettingsError with a sentence."""
    from pytest_backdoor.calibration import load_pack

    from ..zoo.store import load_zoo
    from .calibrate import calibrate

    zoos = [load_zoo(folder) for folder in arguments.zoo]
    work = work_of(arguments)
    pack = calibrate(load_pack(arguments.pack), zoos, work)
    pack.save(arguments.out)
    print(f"{arguments.out}: {arguments.out.stat().st_size / 1024:.0f} kB")
    if arguments.results:
        tested = [*zoos, *(load_zoo(folder) for folder in arguments.test_zoo)]
        _write_results(arguments, zoos, tested, work)
    return 0


def _write_results(arguments: argparse.Namespace, zoos: list[Zoo], tested: list[Zoo], work: Work) -> None:
    from pytest_backdoor.calibration import load_pack
    from pytest_backdoor.files import write_atomically

    from .calibrate import judge_others
    from .calibration_table import as_markdown, figures_of
    from .left_out import judge_left_out

    pack = load_pack(arguments.out)
    figures = figures_of(pack, judge_others(pack, tested, work), judge_left_out(pack, zoos, tested, work))
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"
    text = json.dumps({"command": _recorded(arguments), **figures}, indent=1, sort_keys=True)
    write_atomically(arguments.results / f"reversal-{pack.name}.json", f"{text}\n".encode())
    table = as_markdown(figures, _recorded(arguments), machine)
    write_atomically(arguments.results / f"reversal-{pack.name}.md", table.encode())


def _recorded(arguments: argparse.Namespace) -> str:
    """The command that repeats this, without the paths of the machine it ran on."""
    zoos = " ".join(f"--zoo {zoo.name}" for zoo in arguments.zoo)
    tested = "".join(f" --test-zoo {zoo.name}" for zoo in arguments.test_zoo)
    command = (
        f"python -m reference_attacks litmus calibrate --pack {arguments.pack.name} {zoos}{tested} "
        f"--families {' '.join(arguments.families)} "
        f"--families-without-samples {' '.join(arguments.families_without_samples)} --seed {arguments.seed} "
        f"--out {arguments.out.name} --results docs/results"
    )
    return " ".join(command.split())
