"""The state of a machine that reads a pickle: the bytes, how far it has read, the stack, the marks and the memo."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ._values import BrokenError, Builder, Opaque

MOST_MARKS = 1000
LONGEST_LINE = 4096
LONGEST_KEPT = 4096


@dataclass(kw_only=True)
class PickleReading:
    """What was found in one pickle.

    ``end``: the position behind its STOP, or where reading stopped. ``broken``: how the sentence ends that begins with
    "is a pickle that", None if STOP was reached. ``names``: everything it looks up, in order, also before it broke.
    ``running`` and ``foreign``: opcodes that torch's loader does not read, with and without code behind them.
    """

    value: object = None
    end: int = 0
    steps: int = 0
    broken: str | None = None
    names: dict[str, None] = field(default_factory=dict)
    running: dict[str, None] = field(default_factory=dict)
    foreign: dict[str, None] = field(default_factory=dict)


class State:
    """What the opcodes of a pickle work on, reading of their arguments, and those opcodes that only move values.

    ``builder``: judges calls. ``stack``: the values since the last mark; ``below``: those under each mark. Methods
    raise BrokenError or IndexError where the pickle cannot be read on.
    """

    def __init__(self, content: bytes, position: int, builder: Builder) -> None:
        self.content = content
        self.position = position
        self.builder = builder
        self.reading = PickleReading()
        self.stack: list[object] = []
        self.below: list[list[object]] = []
        self.memo: dict[int, object] = {}

    def take(self, length: int) -> bytes:
        """The next ``length`` bytes."""
        start, self.position = self.position, self.position + length
        if length < 0 or self.position > len(self.content):
            self.position = len(self.content)
            raise BrokenError("claims to be longer than the file")
        return self.content[start : self.position]

    def number(self, width: int, *, signed: bool = False) -> int:
        """The next ``width`` bytes as a little-endian integer."""
        return int.from_bytes(self.take(width), "little", signed=signed)

    def line(self, longest: int = LONGEST_LINE) -> bytes:
        """What is left of the line, without its end."""
        end = self.content.find(b"\n", self.position, self.position + longest)
        if end < 0:
            raise BrokenError("holds a line without an end")
        line = self.content[self.position : end]
        self.position = end + 1
        return line

    def text_line(self) -> str:
        return self.line().decode("utf-8", "backslashreplace")

    def sized(self, width: int, make: Callable[[bytes], object]) -> object:
        """A string with its length before it; long ones are only measured, nothing that matters is long."""
        length = self.number(width)
        if length <= LONGEST_KEPT:
            return make(self.take(length))
        if length > len(self.content) - self.position:
            raise BrokenError("claims to be longer than the file")
        self.position += length
        return Opaque("long string")

    def mark(self) -> None:
        if len(self.below) >= MOST_MARKS:
            raise BrokenError(f"nests more than {MOST_MARKS} marks")
        self.below.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[object]:
        """Take the mark and all values above it."""
        items, self.stack = self.stack, self.below.pop()
        return items

    def pop(self) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.since_mark()

    def pop_mark(self) -> None:
        self.since_mark()

    def duplicate(self) -> None:
        self.stack.append(self.stack[-1])

    def get_line(self) -> None:
        self._get(self._index_line())

    def get_byte(self) -> None:
        self._get(self.number(1))

    def get_long(self) -> None:
        self._get(self.number(4))

    def put_line(self) -> None:
        self._remember(self._index_line())

    def put_byte(self) -> None:
        self._remember(self.number(1))

    def put_long(self) -> None:
        self._remember(self.number(4))

    def memoize(self) -> None:
        self._remember(len(self.memo))

    def _index_line(self) -> int:
        line = self.line()
        if len(line) > 10 or not line.isdigit():
            raise BrokenError("names a place in its memo that is no number")
        return int(line)

    def _get(self, index: int) -> None:
        if index not in self.memo:
            raise BrokenError("takes from its memo what it never put there")
        self.stack.append(self.memo[index])

    def _remember(self, index: int) -> None:
        top = self.stack[-1]
        if index > self.position:  # a pickler counts up; readers in C reserve memory for every index below
            raise BrokenError("claims a larger memo than the file could fill")
        self.memo[index] = top
