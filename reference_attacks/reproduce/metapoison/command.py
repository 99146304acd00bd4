"""``python -m reference_attacks reproduce metapoison``: figures of MetaPoison (2020)."""

from __future__ import annotations

import argparse

from ...parsing import Parsers
from ..parts_command import add_paper
from .catalogue import PAPER

DESCRIPTION = """\
Craft the poisons that a figure of the paper needs, train victims on them from scratch, and write what became of the
targets beside the paper's numbers, with a plot: on a GPU at the paper's size, on a CPU at a reduced one. What is in
--work already is used, so a run that was interrupted goes on where it stopped. Every figure that is in --results
appears in metapoison.md.
"""


def add_parser(actions: Parsers[argparse.ArgumentParser]) -> None:
    """Register ``reproduce metapoison``."""
    add_paper(actions, PAPER, "MetaPoison: clean-label poisons for networks trained from scratch", DESCRIPTION)
