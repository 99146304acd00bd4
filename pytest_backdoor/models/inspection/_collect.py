"""Collecting what is wrong with one file, a bounded list of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from pytest_backdoor.findings import Problem

# A hostile file may break a rule a million times; nobody reads that.
MOST_PER_RULE = 10
MOST_CHARACTERS = 80
FETCH = "Fetch the file again or export the model again."


@dataclass(slots=True)
class Collector:
    """The problems of the file that reports call ``display``, of each rule the first ones."""

    display: str
    problems: list[Problem] = field(default_factory=list)
    _counts: Counter[str] = field(default_factory=Counter)

    def add(self, rule: str, message: str, remedy: str = FETCH) -> None:
        """Add one; ``message`` goes on after the name of the file and ends without a full stop."""
        self._counts[rule] += 1
        if self._counts[rule] <= MOST_PER_RULE:
            text = f"{self.display} {message}."
            self.problems.append(Problem(rule=rule, message=text, remedy=remedy, path=self.display))


def quoted(text: str | bytes) -> str:
    """A name out of a hostile file, printable, in quotes and of bounded length."""
    if isinstance(text, bytes):
        text = text[: 4 * MOST_CHARACTERS].decode("utf-8", "backslashreplace")
    shown = text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS] + "…"
    return ascii(shown) if not shown.isprintable() else repr(shown)
