"""Arguments of an ``argparse`` parser as tables, the same with every version of Python."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from .markdown import code, table


class _Cores(int):
    """The number of cores, without saying which: the pages are the same on every machine."""

    def __str__(self) -> str:
        return "the number of cores"


@contextmanager
def on_any_machine() -> Iterator[None]:
    """While parsers are made: what they take from the machine is named, not shown."""
    with mock.patch.object(os, "cpu_count", return_value=_Cores(1)):
        yield


def arguments_table(parser: argparse.ArgumentParser) -> str:
    """Every argument of ``parser`` but its help and its subcommands."""
    rows = [(_names(action), meaning(action)) for action in _arguments(parser)]
    return table(["argument", "meaning"], rows) if rows else ""


def usage(parser: argparse.ArgumentParser) -> str:
    """What is typed: the command with what it cannot do without."""
    required = [action for action in _arguments(parser) if action.required]
    named = [f"{action.option_strings[-1]} {_value(action)}".rstrip() for action in required if action.option_strings]
    plain = [_value(action) for action in _arguments(parser) if not action.option_strings]
    return " ".join([parser.prog, *named, *plain])


def subcommands(parser: argparse.ArgumentParser) -> dict[str, tuple[argparse.ArgumentParser, str]]:
    """The parsers below ``parser`` by name, each with its one line of help."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            return {name: (below, helps.get(name, "")) for name, below in action.choices.items()}
    return {}


def meaning(action: argparse.Action) -> str:
    """An argument's help, with its choices where neither it nor the argument's name shows them."""
    text = action.help % {**vars(action), "prog": ""} if action.help else ""
    if action.choices and action.metavar and not all(str(choice) in text for choice in action.choices):
        text += f" ({', '.join(code(choice) for choice in action.choices)})"
    return text.strip()


def _arguments(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    left_out = (argparse._HelpAction, argparse._VersionAction, argparse._SubParsersAction)
    return [action for action in parser._actions if not isinstance(action, left_out)]


def _names(action: argparse.Action) -> str:
    if not action.option_strings:
        return code(_value(action))
    value = f" {_value(action)}" if action.nargs != 0 else ""
    return code(", ".join(action.option_strings) + value)


def _value(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    name = action.metavar or (None if action.choices is None else "|".join(str(choice) for choice in action.choices))
    name = name or (action.dest.upper() if action.option_strings else action.dest)
    shown = " ".join(name) if isinstance(name, tuple) else name
    if action.nargs == "+":
        return f"{shown} ..."
    if action.nargs == "*":
        return f"[{shown} ...]"
    if action.nargs == "?":
        return f"[{shown}]"
    if isinstance(action.nargs, int) and not isinstance(name, tuple):
        return " ".join([shown] * action.nargs)
    return shown
