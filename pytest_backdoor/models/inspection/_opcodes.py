"""The opcodes of pickles, and which of them torch's loader restricted to weights reads."""

from __future__ import annotations

import pickletools

NAMES = {ord(opcode.code): opcode.name for opcode in pickletools.opcodes}
CODES = {name: code for code, name in NAMES.items()}


def _codes(names: str) -> frozenset[int]:
    return frozenset(CODES[name] for name in names.split())


# torch/_weights_only_unpickler.py, Unpickler.load: everything else is an error there.
READ_BY_TORCH = _codes(
    "GLOBAL NEWOBJ REDUCE BUILD APPEND APPENDS SETITEM SETITEMS MARK TUPLE TUPLE1 TUPLE2 TUPLE3 NONE NEWFALSE NEWTRUE "
    "EMPTY_TUPLE EMPTY_LIST EMPTY_DICT EMPTY_SET BININT BININT1 BININT2 BINFLOAT BINUNICODE SHORT_BINSTRING BINPERSID "
    "BINGET LONG_BINGET BINPUT LONG_BINPUT LONG1 PROTO STOP"
)
# What imports, calls, or hands an object in from outside; the others that torch does not read are merely of another
# protocol.
RUNS_CODE = _codes("INST OBJ NEWOBJ_EX EXT1 EXT2 EXT4 PERSID STACK_GLOBAL NEXT_BUFFER READONLY_BUFFER")
