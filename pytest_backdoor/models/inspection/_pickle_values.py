"""Opcodes of pickles that put a value without parts on the stack, or nothing."""

from __future__ import annotations

from ._pickle_state import LONGEST_KEPT, State
from ._values import BrokenError, Opaque

LONGEST_NUMBER = 255


class ValueOpcodes(State):
    """A method for each such opcode; ``_pickle.METHODS`` says which."""

    def ignore_protocol(self) -> None:
        if self.number(1) > 5:
            raise BrokenError("is written for an unknown protocol")

    def ignore_frame(self) -> None:
        if self.number(8) > len(self.content) - self.position:
            raise BrokenError("claims to be longer than the file")

    def push_none(self) -> None:
        self.stack.append(None)

    def push_true(self) -> None:
        self.stack.append(True)

    def push_false(self) -> None:
        self.stack.append(False)

    def push_byte(self) -> None:
        self.stack.append(self.number(1))

    def push_short(self) -> None:
        self.stack.append(self.number(2))

    def push_integer(self) -> None:
        self.stack.append(self.number(4, signed=True))

    def push_long1(self) -> None:
        self.stack.append(self.number(self.number(1), signed=True))

    def push_long4(self) -> None:
        length = self.number(4)
        if length > LONGEST_NUMBER:
            raise BrokenError("holds a number of more than 2000 bits")
        self.stack.append(self.number(length, signed=True))

    def push_decimal(self) -> None:
        line = self.line().rstrip(b"L")
        if len(line) > LONGEST_NUMBER or not line.strip().lstrip(b"+-").isdigit():
            raise BrokenError("holds a number that is none")
        self.stack.append({b"00": False, b"01": True}.get(line, int(line)))

    def push_float_line(self) -> None:
        try:
            self.stack.append(float(self.line()))
        except ValueError:
            raise BrokenError("holds a number that is none") from None

    def push_float(self) -> None:
        self.take(8)
        self.stack.append(0.0)  # no check needs its value

    def push_line(self) -> None:
        text = self.line(len(self.content)).decode("utf-8", "backslashreplace")
        if len(text) < 2 or text[0] not in "\"'" or text[-1] != text[0]:
            raise BrokenError("holds a string without quotes")
        self.stack.append(text[1:-1] if len(text) <= LONGEST_KEPT else Opaque("long string"))

    def push_unicode_line(self) -> None:
        line = self.line(len(self.content))
        self.stack.append(_escaped(line) if len(line) <= LONGEST_KEPT else Opaque("long string"))

    def push_text1(self) -> None:
        self.stack.append(self.sized(1, _text))

    def push_text4(self) -> None:
        self.stack.append(self.sized(4, _text))

    def push_text8(self) -> None:
        self.stack.append(self.sized(8, _text))

    def push_string1(self) -> None:
        self.stack.append(self.sized(1, _string))

    def push_string4(self) -> None:
        self.stack.append(self.sized(4, _string))

    def push_bytes1(self) -> None:
        self.stack.append(self.sized(1, bytes))

    def push_bytes4(self) -> None:
        self.stack.append(self.sized(4, bytes))

    def push_bytes8(self) -> None:
        self.stack.append(self.sized(8, bytes))

    def push_buffer(self) -> None:
        self.stack.append(Opaque("buffer from outside"))

    def keep_top(self) -> None:
        self.stack[-1]


def _text(raw: bytes) -> object:
    try:
        return raw.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        raise BrokenError("holds text that is none") from None


def _escaped(raw: bytes) -> object:
    try:
        return raw.decode("raw-unicode-escape")
    except UnicodeDecodeError:
        raise BrokenError("holds text that is none") from None


def _string(raw: bytes) -> object:
    """A string of Python 2, which torch decodes."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw
