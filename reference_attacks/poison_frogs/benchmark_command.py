"""``python -m reference_attacks frogs benchmark``: how long crafting takes, and how well it is done."""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path

from ..parsing import Parsers, add_action_to
from .options import (
    add_crafting_options,
    add_extractor_options,
    crafting_plan,
    crafting_words,
    extractor_words,
)

DESCRIPTION = """\
Craft the same poisons in one batch, one after the other with the same settings, one after the other by descent, and by
ART's FeatureCollisionAttack where adversarial-robustness-toolbox is installed, one thread each, in one run on one
machine. Written are seconds (of the processor; on a GPU of a clock), and the objective (equation 1 of the paper) and
feature distance of the rounded images.
"""


def add_parser(actions: Parsers[argparse.ArgumentParser]) -> None:
    """Register ``frogs benchmark``."""
    parser = add_action_to(actions, "benchmark", "crafting in a batch, one by one, and by ART", DESCRIPTION)
    parser.add_argument("--target-class", default="dog", metavar="CLASS", help="default: %(default)s")
    parser.add_argument("--base-class", default="frog", metavar="CLASS", help="default: %(default)s")
    parser.add_argument("--count", type=int, default=64, metavar="N", help="poisons; default: %(default)s")
    parser.add_argument(
        "--alone",
        type=int,
        default=16,
        metavar="N",
        help="of them, crafted one after the other and by ART, seconds scaled up; default: %(default)s",
    )
    parser.add_argument(
        "--descent-iterations", type=int, default=200, metavar="N", help="of descent; default: %(default)s"
    )
    parser.add_argument("--art-iterations", type=int, default=120, metavar="N", help="ART's own default: %(default)s")
    parser.add_argument("--device", default="cpu", metavar="NAME", help="cpu, cuda, ...; default: %(default)s")
    add_extractor_options(parser)
    add_crafting_options(parser)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="the .md file; a .json is put beside it"
    )
    parser.set_defaults(run=run, iterations=200)


def run(arguments: argparse.Namespace) -> int:
    """Measure and write. Raises ValueError, OSError or DataNotFoundError with a sentence."""
    from pytest_backdoor.files import write_atomically

    from .benchmark import Sizes, measure, text
    from .sources import open_source

    if not 1 <= arguments.alone <= arguments.count:
        raise ValueError("--alone is at least 1, and at most --count.")
    source = open_source(arguments, (arguments.target_class, arguments.base_class), print)
    sizes = Sizes(
        count=arguments.count,
        alone=arguments.alone,
        descent_iterations=arguments.descent_iterations,
        art_iterations=arguments.art_iterations,
        device=arguments.device,
    )
    values = measure(source, crafting_plan(arguments), sizes, seed=arguments.seed, say=print)
    values = {"command": _command(arguments), **values}
    write_atomically(arguments.out.with_suffix(".json"), f"{json.dumps(values, indent=1)}\n".encode())
    write_atomically(arguments.out, text(values).encode())
    print(text(values))
    return 0


def _command(arguments: argparse.Namespace) -> str:
    """The command that measures the same; it names no folder."""
    words = ["--target-class", arguments.target_class, "--base-class", arguments.base_class]
    for option in ("count", "alone", "descent_iterations", "art_iterations", "device"):
        words += [f"--{option.replace('_', '-')}", str(getattr(arguments, option))]
    words += [*extractor_words(arguments), *crafting_words(arguments), "--batch", str(arguments.batch)]
    return shlex.join(["python", "-m", "reference_attacks", "frogs", "benchmark", *words, "--out", arguments.out.name])
