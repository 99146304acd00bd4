"""What the parsers of several subcommands share."""

from __future__ import annotations

import argparse

Parsers = argparse._SubParsersAction  # What ``add_subparsers`` returns has no public name.


def add_subcommand(
    subparsers: Parsers[argparse.ArgumentParser], name: str, about: str
) -> Parsers[argparse.ArgumentParser]:
    """Register a subcommand that needs an action, and return what its actions are added to."""
    parent = subparsers.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.")
    return parent.add_subparsers(title="actions", dest="action", metavar="ACTION", required=True)


def add_action_to(
    actions: Parsers[argparse.ArgumentParser], name: str, about: str, description: str, *, epilog: str | None = None
) -> argparse.ArgumentParser:
    """Register one action of a subcommand and return its parser."""
    return actions.add_parser(
        name,
        help=about,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def add_action(
    subparsers: Parsers[argparse.ArgumentParser],
    subcommand: tuple[str, str],
    action: tuple[str, str],
    description: str,
) -> argparse.ArgumentParser:
    """Register a subcommand with a single action and return its parser; each of the two is a name and its help."""
    return add_action_to(add_subcommand(subparsers, *subcommand), *action, description)


def add_data_root(parser: argparse.ArgumentParser) -> None:
    """Register ``--data-root``."""
    parser.add_argument(
        "--data-root", metavar="DIR", help="folder of the data sets; default: $BACKDOOR_DATA_ROOT or data"
    )
