"""Pieces of Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; what a cell holds may span lines and contain bars."""
    lines = [_row(header), _row(["---"] * len(header))]
    return "\n".join([*lines, *(_row([_cell(text) for text in row]) for row in rows)])


def code(text: object) -> str:
    """``text`` as code."""
    return f"`{text}`"


def from_docstring(text: str) -> str:
    """A docstring as Markdown: reStructuredText's double backticks become single ones."""
    return re.sub(r"``(.+?)``", r"`\1`", text, flags=re.DOTALL)


def first_sentence(text: str) -> str:
    """The first sentence of a docstring, on one line."""
    paragraph = " ".join(text.split("\n\n")[0].split())
    return re.split(r"(?<=[.?])\s", paragraph)[0]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
