"""Whether a command's words are ones that it knows, without running it."""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import shlex

from tools.reference.options import plugin_options


def unknown_words(command: str) -> str:
    """What is wrong with the arguments of a command of this project, empty if nothing is; others are not looked at."""
    words = [word for word in shlex.split(command.split("|")[0]) if not re.fullmatch(r"\w+=\S*", word)]
    if words[:3] == ["python", "-m", "reference_attacks"]:
        from reference_attacks.cli import make_parser

        return _refused(make_parser(), words[3:])
    if words[:1] == ["pytest-backdoor"]:
        from pytest_backdoor.cli._parser import make_parser as lock_parser

        return _refused(lock_parser(), words[1:])
    if words[:1] == ["pytest"]:
        known = {name for action in plugin_options() for name in action.option_strings}
        given = {word.split("=")[0] for word in words if word.startswith("--backdoor")}
        return " ".join(sorted(given - known))
    return ""


def _refused(parser: argparse.ArgumentParser, words: list[str]) -> str:
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        try:
            parser.parse_args(words)
        except SystemExit:
            return said.getvalue().strip() or "refused"
    return ""
