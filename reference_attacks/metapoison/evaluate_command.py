"""``python -m reference_attacks metapoison evaluate``: what victims take their targets for."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..parsing import Parsers, add_action_to

DESCRIPTION = """\
Print what victims say of their targets: how many they take for the class that the attacker wants, and how probable that
class is to them; with batch normalisation as a network is used (evaluation mode), and, "in batches", as the authors of
MetaPoison measured: with the statistics of training batches that the targets join. Victims are those that metapoison
train or export wrote, which are looked at again, or those of a folder of trials, whose records are read.
"""


def add_parser(actions: Parsers[argparse.ArgumentParser]) -> None:
    """Register ``metapoison evaluate``."""
    parser = add_action_to(actions, "evaluate", "what victims take their targets for", DESCRIPTION)
    parser.add_argument("paths", type=Path, nargs="+", metavar="DIR", help="victims, folders of them, or of trials")
    parser.add_argument("--each", action="store_true", help="a row for each victim")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the table. Raises ValueError with a sentence where there are no victims."""
    from .evaluating import as_text, evaluate

    print(as_text([one for path in arguments.paths for one in evaluate(path)], each=arguments.each))
    return 0
