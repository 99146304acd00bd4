"""Checking tables of a TOML file: no unknown key, no wrong type, nothing missing."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

TYPE_NAMES = {str: "a string", int: "an integer", bool: "true or false", dict: "a table", list: "an array"}


class InvalidLockError(ValueError):
    """What is wrong with the content of a lock file, as a clause to put into a sentence."""


def check_table(table: Any, keys: Mapping[str, type], where: str, *, required: Iterable[str] = ()) -> None:
    """Check that ``table`` is a table with known keys and values of the right types, the required ones among them.

    Raises InvalidLockError at the first that is not.
    """
    if not isinstance(table, dict):
        raise InvalidLockError(f"{where} is not a table")
    for key, value in table.items():
        if key not in keys:
            raise InvalidLockError(f"{where} has the unknown key {key!r}{_suggestion(key, keys)}")
        if type(value) is not keys[key]:  # exact: true is an int to isinstance
            raise InvalidLockError(f"{key!r} of {where} is not {TYPE_NAMES[keys[key]]}")
    for key in required:
        if key not in table:
            raise InvalidLockError(f"{where} lacks the key {key!r}")


def _suggestion(key: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(key, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def one_of(value: str, choices: Iterable[str], where: str) -> None:
    """Check that ``value`` is one of the choices; raises InvalidLockError."""
    if value not in choices:
        raise InvalidLockError(
            f"{where} is {value!r} instead of one of {', '.join(choices)}{_suggestion(value, choices)}"
        )
