"""``python -m reference_attacks metapoison``: poisons for networks trained from scratch, and what they do."""

from __future__ import annotations

import argparse

from ..parsing import Parsers, add_subcommand
from . import benchmark_command, craft_command, evaluate_command, export_command, train_command

MODULES = (craft_command, train_command, evaluate_command, export_command, benchmark_command)


def add_parser(subparsers: Parsers[argparse.ArgumentParser]) -> None:
    """Register ``metapoison`` and its actions."""
    actions = add_subcommand(subparsers, "metapoison", "targeted clean-label poisons for networks trained from scratch")
    for module in MODULES:
        module.add_parser(actions)
