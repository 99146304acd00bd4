"""Reading a pickle without running any of it: a machine for its opcodes that knows names instead of objects.

The machine never imports, never calls, and copies no more than the file holds: a length is compared with what is left
of the file before anything is taken, a memo index with the position, and the numbers of steps, of marks and of values
on the stack have limits. No container is hashed, compared or printed, so values that contain each other a billion times
cost as much as the opcodes that made them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ._globals import OLD_MODULES
from ._opcodes import CODES, NAMES, READ_BY_TORCH, RUNS_CODE
from ._values import BrokenError, Builder, Dictionary, Global, Opaque, Tensor

MOST_STEPS = 4_000_000
MOST_STACKED = 100_000
MOST_MARKS = 1000
LONGEST_LINE = 4096
LONGEST_NUMBER = 255
LONGEST_KEPT = 4096
STOP = CODES["STOP"]


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


def read_pickle(content: bytes, position: int, builder: Builder, most_steps: int = MOST_STEPS) -> PickleReading:
    """Read the pickle that begins at ``position``. Raises what ``builder`` raises, nothing for what the bytes hold."""
    machine = _Machine(content, position, builder, most_steps)
    reading = machine.reading
    try:
        machine.run()
    except BrokenError as error:
        reading.broken = str(error)
    except IndexError:
        reading.broken = "takes more from the stack than is on it"
    reading.end = machine.position
    return reading


class _Machine:
    def __init__(self, content: bytes, position: int, builder: Builder, most_steps: int) -> None:
        self.most_steps = most_steps
        self.content = content
        self.position = position
        self.builder = builder
        self.reading = PickleReading()
        self.stack: list[object] = []
        self.below: list[list[object]] = []
        self.memo: dict[int, object] = {}

    def run(self) -> None:
        content, reading = self.content, self.reading
        actions = {CODES[name]: getattr(self, method) for name, method in METHODS.items()}
        for step in range(1, self.most_steps + 1):
            reading.steps = step
            if self.position >= len(content):
                raise BrokenError("ends before its end")
            code = content[self.position]
            self.position += 1
            if code not in READ_BY_TORCH and code in NAMES:
                (reading.running if code in RUNS_CODE else reading.foreign)[NAMES[code]] = None
            if code == STOP:
                reading.value = self.stack.pop()
                return
            action = actions.get(code)
            if action is None:
                raise BrokenError(f"holds the unknown opcode 0x{code:02x}")
            action()
            if len(self.stack) > MOST_STACKED:
                raise BrokenError(f"nests more than {MOST_STACKED} values")
        raise BrokenError(f"takes more than {self.most_steps} steps")

    # Reading arguments.

    def take(self, length: int) -> bytes:
        start, self.position = self.position, self.position + length
        if length < 0 or self.position > len(self.content):
            self.position = len(self.content)
            raise BrokenError("claims to be longer than the file")
        return self.content[start : self.position]

    def number(self, width: int, *, signed: bool = False) -> int:
        return int.from_bytes(self.take(width), "little", signed=signed)

    def line(self, longest: int = LONGEST_LINE) -> bytes:
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

    # Values without parts.

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

    # Containers.

    def mark(self) -> None:
        if len(self.below) >= MOST_MARKS:
            raise BrokenError(f"nests more than {MOST_MARKS} marks")
        self.below.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[object]:
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

    def push_tuple(self) -> None:
        items = tuple(self.since_mark())
        self.stack.append(items)

    def push_empty_tuple(self) -> None:
        self.stack.append(())

    def push_tuple1(self) -> None:
        self._tuple_of(1)

    def push_tuple2(self) -> None:
        self._tuple_of(2)

    def push_tuple3(self) -> None:
        self._tuple_of(3)

    def _tuple_of(self, count: int) -> None:
        if len(self.stack) < count:
            raise IndexError
        self.stack[-count:] = [tuple(self.stack[-count:])]

    def push_empty_list(self) -> None:
        self.stack.append([])

    def push_list(self) -> None:
        items = self.since_mark()
        self.stack.append(items)

    def push_empty_dict(self) -> None:
        self.stack.append(Dictionary())

    def push_dict(self) -> None:
        items = self.since_mark()
        self.stack.append(Dictionary())
        self._put(items)

    def push_empty_set(self) -> None:
        self.stack.append(Opaque("set"))

    def push_frozen_set(self) -> None:
        self.since_mark()
        self.stack.append(Opaque("set"))

    def append(self) -> None:
        item = self.stack.pop()
        self._extend([item])

    def append_all(self) -> None:
        self._extend(self.since_mark())

    def _extend(self, items: list[object]) -> None:
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, Opaque):  # that of a call that was judged already
            raise BrokenError("appends to something that is no list")

    def add_all(self) -> None:
        self.since_mark()
        self.stack[-1]

    def set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self._put([key, value])

    def set_items(self) -> None:
        self._put(self.since_mark())

    def _put(self, items: list[object]) -> None:
        target = self.stack[-1]
        if isinstance(target, Dictionary):
            target.size += len(items) // 2
        elif not isinstance(target, Opaque):
            raise BrokenError("puts items into something that is no dict")
        if len(items) % 2 or (isinstance(target, Dictionary) and target.fixed):
            raise BrokenError("puts items where there can be none")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not _may_be_key(key):
                raise BrokenError("has containers for keys")
            if isinstance(value, Tensor) and not value.name and isinstance(key, str):
                value.name = key

    # The memo.

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

    # What would run code.

    def _look_up(self, module: str, name: str) -> Global:
        path = f"{OLD_MODULES.get(module, module)}.{name}"
        path = path if len(path) <= LONGEST_LINE else path[:LONGEST_LINE]
        self.reading.names[path] = None
        return Global(path)

    def push_global(self) -> None:
        self.stack.append(self._look_up(self.text_line(), self.text_line()))

    def push_stacked_global(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        # What is no text was computed by the pickle itself, which is reason enough to distrust it.
        self.stack.append(self._look_up(*(part if isinstance(part, str) else "?" for part in (module, name))))

    def extension(self, width: int) -> None:
        self.number(width)
        self.stack.append(Opaque("registered extension"))

    def extension1(self) -> None:
        self.extension(1)

    def extension2(self) -> None:
        self.extension(2)

    def extension4(self) -> None:
        self.extension(4)

    def instance(self) -> None:
        found = self._look_up(self.text_line(), self.text_line())
        self._call(found, tuple(self.since_mark()))

    def stacked_instance(self) -> None:
        items = self.since_mark()
        self._call(items[0], tuple(items[1:]))

    def reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        self._call(function, arguments)

    def new_object_with_names(self) -> None:
        names, arguments, function = self.stack.pop(), self.stack.pop(), self.stack.pop()
        self._call(function, (arguments, names))

    def _call(self, function: object, arguments: object) -> None:
        self.stack.append(self.builder.call(function, arguments))

    def build(self) -> None:
        state = self.stack.pop()
        self.builder.build(self.stack[-1], state)

    def persistent(self) -> None:
        self.stack.append(self.builder.persistent(self.stack.pop()))

    def persistent_line(self) -> None:
        self.line()
        self.stack.append(Opaque("object from outside"))


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


def _may_be_key(key: object) -> bool:
    """Hashing tuples of tuples may take forever; no weights have such keys."""
    parts = key if isinstance(key, tuple) else (key,)
    return all(part is None or isinstance(part, (str, bytes, int, float, Global, Opaque)) for part in parts)


METHODS = {
    "PROTO": "ignore_protocol",
    "FRAME": "ignore_frame",
    "NONE": "push_none",
    "NEWTRUE": "push_true",
    "NEWFALSE": "push_false",
    "BININT1": "push_byte",
    "BININT2": "push_short",
    "BININT": "push_integer",
    "LONG1": "push_long1",
    "LONG4": "push_long4",
    "INT": "push_decimal",
    "LONG": "push_decimal",
    "FLOAT": "push_float_line",
    "BINFLOAT": "push_float",
    "STRING": "push_line",
    "UNICODE": "push_unicode_line",
    "SHORT_BINUNICODE": "push_text1",
    "BINUNICODE": "push_text4",
    "BINUNICODE8": "push_text8",
    "SHORT_BINSTRING": "push_string1",
    "SHORT_BINBYTES": "push_bytes1",
    "BINSTRING": "push_string4",
    "BINBYTES": "push_bytes4",
    "BINBYTES8": "push_bytes8",
    "BYTEARRAY8": "push_bytes8",
    "NEXT_BUFFER": "push_buffer",
    "READONLY_BUFFER": "keep_top",
    "MARK": "mark",
    "POP": "pop",
    "POP_MARK": "pop_mark",
    "DUP": "duplicate",
    "TUPLE": "push_tuple",
    "EMPTY_TUPLE": "push_empty_tuple",
    "TUPLE1": "push_tuple1",
    "TUPLE2": "push_tuple2",
    "TUPLE3": "push_tuple3",
    "EMPTY_LIST": "push_empty_list",
    "LIST": "push_list",
    "EMPTY_DICT": "push_empty_dict",
    "DICT": "push_dict",
    "EMPTY_SET": "push_empty_set",
    "FROZENSET": "push_frozen_set",
    "APPEND": "append",
    "APPENDS": "append_all",
    "ADDITEMS": "add_all",
    "SETITEM": "set_item",
    "SETITEMS": "set_items",
    "GET": "get_line",
    "BINGET": "get_byte",
    "LONG_BINGET": "get_long",
    "PUT": "put_line",
    "BINPUT": "put_byte",
    "LONG_BINPUT": "put_long",
    "MEMOIZE": "memoize",
    "GLOBAL": "push_global",
    "STACK_GLOBAL": "push_stacked_global",
    "EXT1": "extension1",
    "EXT2": "extension2",
    "EXT4": "extension4",
    "INST": "instance",
    "OBJ": "stacked_instance",
    "REDUCE": "reduce",
    "NEWOBJ": "reduce",
    "NEWOBJ_EX": "new_object_with_names",
    "BUILD": "build",
    "BINPERSID": "persistent",
    "PERSID": "persistent_line",
}
