"""``python -m reference_attacks reproduce``: one action for each paper."""

from __future__ import annotations

import argparse

from ..parsing import Parsers, add_subcommand
from . import ulp_command
from .badnets import command as badnets_command
from .frogs import command as frogs_command
from .metapoison import command as metapoison_command


def add_parser(subparsers: Parsers[argparse.ArgumentParser]) -> None:
    """Register ``reproduce`` and its actions."""
    actions = add_subcommand(subparsers, "reproduce", "tables and figures of the papers")
    for module in (badnets_command, ulp_command, frogs_command, metapoison_command):
        module.add_parser(actions)
