"""``python -m reference_attacks zoo build``: train the networks on which detectors are fitted and calibrated."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from ..parsing import add_action

DESCRIPTION = """\
Train clean and poisoned digit networks of the threat model of Universal Litmus Patterns (section 3.1): one source and
one target class, one of 20 random 5x5 patches in random corners. Triggers and pairs are disjoint between the networks
to fit on and those to test on. A network that does not reach the conditions (clean accuracy, attack success above
90 %) is kept on disk, marked as rejected and left out.

The command can be interrupted at any moment and goes on where it stopped. A zoo can be made larger with the same
command and larger numbers.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register ``zoo build``."""
    build = add_action(
        subparsers, ("zoo", "many clean and poisoned networks"), ("build", "train the networks of a zoo"), DESCRIPTION
    )
    build.add_argument("--task", choices=["mnist"], default="mnist", help="data set; default: %(default)s")
    build.add_argument("--clean-fit", type=int, default=110, metavar="N", help="clean networks to fit on")
    build.add_argument(
        "--clean-calibration", type=int, default=210, metavar="N", help="clean networks that only give reference scores"
    )
    build.add_argument("--clean-test", type=int, default=50, metavar="N", help="clean networks to test on")
    build.add_argument("--poisoned-fit", type=int, default=140, metavar="N", help="poisoned networks to fit on")
    build.add_argument("--poisoned-test", type=int, default=75, metavar="N", help="poisoned networks to test on")
    build.add_argument(
        "--poison-ratio",
        type=float,
        default=0.5,
        metavar="RATE",
        help="share of backdoored images among those of the source class; default: %(default)s",
    )
    build.add_argument(
        "--steps",
        type=int,
        nargs="+",
        metavar="N",
        help="training steps of 64 images; each network draws one of these; default: 700 900 1200",
    )
    build.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the whole zoo; default: %(default)s")
    build.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, metavar="N", help="processes; default: %(default)s"
    )
    build.add_argument(
        "--data-root", metavar="DIR", help="folder of the data sets; default: $BACKDOOR_DATA_ROOT or data"
    )
    build.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the zoo")
    build.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Build the zoo and say what is in it. Raises ValueError, OSError or DataNotFoundError with a sentence."""
    from .build import build_zoo
    from .recipe import STEPS, ZooPlan

    names = ("clean_fit", "clean_calibration", "clean_test", "poisoned_fit", "poisoned_test")
    counts = {name: getattr(arguments, name) for name in names}
    if min(counts.values()) < 0 or arguments.workers < 1:
        raise ValueError("Numbers of networks cannot be negative, and there must be at least one worker.")
    if not 0 < arguments.poison_ratio < 1:
        raise ValueError("The poison ratio must lie between 0 and 1.")
    steps = tuple(arguments.steps or STEPS)
    if min(steps) < 1:
        raise ValueError("A network needs at least one training step.")
    plan = ZooPlan(task=arguments.task, seed=arguments.seed, poison_ratio=arguments.poison_ratio, steps=steps, **counts)
    manifest = build_zoo(plan, arguments.out, root=arguments.data_root, workers=arguments.workers)
    networks = manifest["networks"]
    print(f"{arguments.out}: {len(networks)} networks, of which {manifest['rejected']} were rejected")
    return 0
