"""``python -m reference_attacks reproduce badnets``: tables and figures of BadNets (2019)."""

from __future__ import annotations

import argparse

from ...parsing import Parsers
from ..parts_command import add_paper
from .catalogue import PAPER

DESCRIPTION = """\
Train the networks that a table or figure of the paper needs (those that are in --work already are used), measure them,
and write the numbers beside the paper's, with a plot where the paper has one. A run that was interrupted goes on where
it stopped. Every part that is in --results appears in badnets.md.
"""


def add_parser(actions: Parsers[argparse.ArgumentParser]) -> None:
    """Register ``reproduce badnets``."""
    add_paper(actions, PAPER, "BadNets: digits, traffic signs, transfer learning", DESCRIPTION)
