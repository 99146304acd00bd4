"""``python -m reference_attacks metapoison benchmark``: how many meta-gradients a second."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ..parsing import Parsers, add_action_to
from .crafting_options import add_crafting_options, crafting_plan

DESCRIPTION = """\
Compute the meta-gradients of all surrogates as one batched program, and one surrogate after the other, on the same
made-up images in one run on one machine, and compare speed and results. On a GPU the batched program should be at
least five times as fast; on a CPU, where crafting works one by one by itself, it is not expected to be faster.
"""


def add_parser(actions: Parsers[argparse.ArgumentParser]) -> None:
    """Register ``metapoison benchmark``."""
    parser = add_action_to(actions, "benchmark", "meta-gradients batched and one by one", DESCRIPTION)
    add_crafting_options(parser)
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, ...; default: cuda if there is one")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help="default: %(default)s")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="turns; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="the .md file; a .json is put beside it"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure and write. Raises ValueError or OSError with a sentence."""
    from pytest_backdoor.files import write_atomically

    from ..zoo.machine import choose_machine
    from .benchmark import measure, text

    plan = crafting_plan(arguments)
    plan.check((plan.unroll + 1) * plan.batch)
    if arguments.repeats < 1:
        raise ValueError("There is at least one turn.")
    machine = choose_machine(arguments.device, 1, 1, arguments.precision)
    values = measure(
        plan,
        device=machine.device,
        precision=machine.precision,
        repeats=arguments.repeats,
        seed=arguments.seed,
        say=print,
    )
    write_atomically(arguments.out.with_suffix(".json"), f"{json.dumps(values, indent=1)}\n".encode())
    write_atomically(arguments.out, text(values).encode())
    print(text(values))
    return 0
