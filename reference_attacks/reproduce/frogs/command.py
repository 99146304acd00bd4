"""``python -m reference_attacks reproduce frogs``: figures of Poison Frogs (2018)."""

from __future__ import annotations

import argparse

from ...parsing import Parsers
from ..parts_command import add_paper
from .catalogue import PAPER

DESCRIPTION = """\
Train what a figure of the paper needs, craft the poisons, measure what they do, and write the numbers beside the
paper's, with a plot. What is in --work already is used, so a run that was interrupted goes on where it stopped. Every
part that is in --results appears in frogs.md. Pictures of images stay in --work.
"""


def add_parser(actions: Parsers[argparse.ArgumentParser]) -> None:
    """Register ``reproduce frogs``."""
    add_paper(actions, PAPER, "Poison Frogs: clean-label poisoning by feature collision", DESCRIPTION)
