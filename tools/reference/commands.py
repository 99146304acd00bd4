"""The command lines, from their parsers."""

from __future__ import annotations

import argparse

from .arguments import arguments_table, on_any_machine, subcommands, usage


def lock_commands_page() -> str:
    """``pytest-backdoor`` and its subcommands."""
    from pytest_backdoor.cli._parser import make_parser

    head = (
        "# The command `pytest-backdoor`\n\nWhat each command is for, and what it refuses, is told in "
        "[lock-file.md](../lock-file.md). Models are scanned by pytest: [options](options.md)."
    )
    return "\n\n".join([head, *_sections(make_parser())])


def attacks_page() -> str:
    """``python -m reference_attacks`` and its subcommands."""
    from reference_attacks.cli import make_parser

    with on_any_machine():
        parser = make_parser()
    head = (
        "# The command `python -m reference_attacks`\n\n"
        f"{parser.description}\n\nIt needs the extra `attacks`: `pip install 'pytest-backdoor[attacks]'`. Told at more "
        "length: [BadNets](../reference-attacks.md), [traffic signs](../traffic-signs.md), "
        "[Poison Frogs](../poison-frogs.md), [detector packs](../detector-packs.md)."
    )
    return "\n\n".join([head, *_sections(parser)])


def _sections(parser: argparse.ArgumentParser, level: int = 2) -> list[str]:
    sections = []
    for below, said in subcommands(parser).values():
        deeper = subcommands(below)
        description = below.description or f"{said[:1].upper()}{said[1:]}."
        text = f"{'#' * level} {below.prog.removeprefix('python -m ')}\n\n{' '.join(description.split())}"
        if not deeper:
            text += f"\n\n<!-- test: example -->\n```text\n{usage(below)}\n```\n\n{arguments_table(below)}"
        sections += [text.rstrip(), *_sections(below, min(level + 1, 4))]
    return sections
