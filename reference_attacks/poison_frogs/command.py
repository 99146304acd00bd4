"""``python -m reference_attacks frogs``: poisons by feature collision, and what they do."""

from __future__ import annotations

import argparse

from ..parsing import Parsers, add_subcommand
from . import benchmark_command, craft_command, end_to_end_command, transfer_command

MODULES = (craft_command, transfer_command, end_to_end_command, benchmark_command)


def add_parser(subparsers: Parsers[argparse.ArgumentParser]) -> None:
    """Register ``frogs`` and its actions."""
    actions = add_subcommand(subparsers, "frogs", "targeted clean-label poisons by feature collision")
    for module in MODULES:
        module.add_parser(actions)
