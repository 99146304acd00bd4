"""Fenced blocks of Markdown pages, and the notes above them that say how they are tested.

A note is a comment directly above a block, ``<!-- test: WORDS -->``; readers do not see it. Its words:

``exit=1`` or ``exit=0,1,1``
    the exit status of all commands of the block, or of each in turn; 0 where nothing is said
``needs=WHAT,WHAT``
    what must be there before: see ``page_fixtures``
``slow``
    takes minutes: run with ``-m slow``, together with the page's other blocks
``hours``, ``network``, ``gpu``, ``elsewhere=FILE``
    not run here, and reported as skipped; ``elsewhere`` names the file that runs it
``file=NAME``
    no command: the block is written to this file in the page's folder
``output``
    no command: what the last command prints has this in it, ``...`` standing for anything
``example``
    no command: something to look at
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SHELL = ("console", "bash", "sh", "shell")
NOT_RUN = {
    "hours": "takes hours: run it by hand",
    "network": "needs the network",
    "gpu": "needs a GPU",
}
FLAGS = ("slow", "output", "example", *NOT_RUN)
VALUES = ("exit", "needs", "file", "elsewhere")
# Model cards, which a command writes, say how it was made.
WRITTEN_BY_COMMANDS = {"docs/examples": {"slow": "", "needs": "mnist"}}
FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>```+)(?P<language>[\w+-]*).*$")
NOTE = re.compile(r"^\s*<!-- test: (?P<words>.*) -->$")


class NoteError(ValueError):
    """A note above a block that is not understood."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """``line``: of its first line of content, from 1. ``note``: what the comment above says."""

    page: Path
    line: int
    language: str
    text: str
    note: dict[str, str] = field(default_factory=dict)

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(ROOT).as_posix()}:{self.line}"

    @property
    def is_command(self) -> bool:
        return self.language in SHELL and not {"file", "output", "example"} & set(self.note)

    @property
    def not_run(self) -> str | None:
        """Why the block is never run here, None if it is."""
        if "elsewhere" in self.note:
            return f"run by {self.note['elsewhere']}"
        return next((f"{word}: {reason}" for word, reason in NOT_RUN.items() if word in self.note), None)

    def needs(self) -> list[str]:
        return [name for name in self.note.get("needs", "").split(",") if name]

    def commands(self) -> list[str]:
        """The commands, each with its continuation lines, without comments."""
        joined = re.sub(r"\\\n\s*", " ", self.text)
        lines = [re.sub(r"(^|\s)# .*$", "", line).strip().removeprefix("$ ") for line in joined.splitlines()]
        return [line for line in lines if line]

    def statuses(self) -> list[int]:
        """The wanted exit status of each command."""
        wanted = [int(each) for each in self.note.get("exit", "0").split(",")]
        commands = self.commands()
        if len(wanted) not in (1, len(commands)):
            raise NoteError(f"{self.where}: {len(wanted)} exit statuses for {len(commands)} commands")
        return wanted * len(commands) if len(wanted) == 1 else wanted


def pages() -> list[Path]:
    """The README and everything below docs, in order."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@cache
def blocks_of(page: Path) -> tuple[Block, ...]:
    """The blocks of a page, in order. Raises NoteError."""
    return tuple(_blocks(page))


def _blocks(page: Path) -> Iterator[Block]:
    lines = page.read_text(encoding="utf-8").splitlines()
    number = 0
    while number < len(lines):
        opened = FENCE.match(lines[number])
        if opened is None:
            number += 1
            continue
        first = number + 1
        closing = opened["indent"] + opened["ticks"]
        last = next((at for at in range(first, len(lines)) if lines[at].rstrip() == closing), None)
        if last is None:
            raise NoteError(f"{page}:{number + 1}: the block is not closed")
        text = "\n".join(line.removeprefix(opened["indent"]) for line in lines[first:last])
        note = _note(lines[:number], f"{page}:{number + 1}") or _usual_note(page)
        yield Block(page=page, line=first + 1, language=opened["language"], text=text, note=note)
        number = last + 1


def _usual_note(page: Path) -> dict[str, str]:
    return WRITTEN_BY_COMMANDS.get(page.parent.relative_to(ROOT).as_posix(), {})


def _note(before: list[str], where: str) -> dict[str, str]:
    """The note among the comments directly above."""
    note: dict[str, str] = {}
    for line in reversed(before):
        if not line.strip().startswith("<!--"):
            break
        found = NOTE.match(line)
        for word in found["words"].split() if found else ():
            name, _, value = word.partition("=")
            if name not in (VALUES if value else FLAGS):
                raise NoteError(f"{where}: the note above the block has the unknown word {word!r}")
            note[name] = value
    return note
