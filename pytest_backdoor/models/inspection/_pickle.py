"""Reading a pickle without running any of it: a machine for its opcodes that knows names instead of objects.

The machine never imports, never calls, and copies no more than the file holds: a length is compared with what is left
of the file before anything is taken, a memo index with the position, and the numbers of steps, of marks and of values
on the stack have limits. No container is hashed, compared or printed, so values that contain each other a billion times
cost as much as the opcodes that made them.
"""

from __future__ import annotations

from ._opcodes import CODES, NAMES, READ_BY_TORCH, RUNS_CODE
from ._pickle_calls import CallOpcodes
from ._pickle_containers import ContainerOpcodes
from ._pickle_state import PickleReading
from ._pickle_values import ValueOpcodes
from ._values import BrokenError, Builder

MOST_STEPS = 4_000_000
MOST_STACKED = 100_000
STOP = CODES["STOP"]


def read_pickle(content: bytes, position: int, builder: Builder, most_steps: int = MOST_STEPS) -> PickleReading:
    """Read the pickle that begins at ``position``. Raises what ``builder`` raises, nothing for what the bytes hold."""
    machine = _Machine(content, position, builder)
    reading = machine.reading
    try:
        machine.run(most_steps)
    except BrokenError as error:
        reading.broken = str(error)
    except IndexError:
        reading.broken = "takes more from the stack than is on it"
    reading.end = machine.position
    return reading


class _Machine(ValueOpcodes, ContainerOpcodes, CallOpcodes):
    def run(self, most_steps: int) -> None:
        content, reading = self.content, self.reading
        actions = {CODES[name]: getattr(self, method) for name, method in METHODS.items()}
        for step in range(1, most_steps + 1):
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
        raise BrokenError(f"takes more than {most_steps} steps")


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
