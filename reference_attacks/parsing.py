"""What the parsers of several subcommands share."""

from __future__ import annotations

import argparse


def add_action(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser],
    subcommand: tuple[str, str],
    action: tuple[str, str],
    description: str,
) -> argparse.ArgumentParser:
    """Register ``SUBCOMMAND ACTION`` and return the action's parser; each of the two is a name and its help."""
    name, about = subcommand
    parent = subparsers.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.")
    actions = parent.add_subparsers(title="actions", dest="action", metavar="ACTION", required=True)
    return actions.add_parser(
        action[0],
        help=action[1],
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
