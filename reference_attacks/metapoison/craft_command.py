"""``python -m reference_attacks metapoison craft``: poisons as PNG files."""

from __future__ import annotations

import argparse

from ..parsing import Parsers, add_action_to

DESCRIPTION = "Craft poisons through the training of surrogate networks."


def add_parser(actions: Parsers[argparse.ArgumentParser]) -> None:
    """Register ``metapoison craft``."""
    parser = add_action_to(actions, "craft", "make poisons for targets", DESCRIPTION)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Craft and write."""
    raise ValueError("Not there yet.")
