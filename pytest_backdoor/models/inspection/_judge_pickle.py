"""What is wrong with a pickle that was read: names of code, opcodes that run it, damage."""

from __future__ import annotations

from ._globals import ALLOWED
from ._pickle import MOST_STEPS, read_pickle
from ._pickle_state import PickleReading
from ._problems import Problems, shown
from ._values import Symbols

MOST_PICKLES = 100


def judge_reading(reading: PickleReading, problems: Problems, where: str = "") -> None:
    """Add what is wrong with ``reading``; ``where``: " in its member x", empty for the file itself."""
    for name in reading.names:
        if name not in ALLOWED:
            problems.add("unsafe-serialisation", f"names {shown(name)}{where}, which is code")
    for opcode in reading.running:
        problems.add("unsafe-serialisation", f"holds the pickle opcode {opcode}{where}, which can run code")
    if reading.broken is not None:
        problems.add("malformed-file", f"is a pickle{where} that {reading.broken}")
    if reading.foreign:
        opcodes = ", ".join(list(reading.foreign)[:3])
        problems.add(
            "unsupported-version",
            f"is a pickle{where} of another protocol than torch's loader of weights reads (opcode {opcodes})",
        )


def judge_rest(content: bytes, position: int, problems: Problems) -> None:
    """Add that there is something from ``position`` on, where the last pickle should have ended the file.

    Whoever calls a loader several times reads it too, so names in it count.
    """
    left = len(content) - position
    if not left:
        return
    problems.add("malformed-file", f"goes on for {left} bytes behind its end")
    steps = 0
    for _ in range(MOST_PICKLES):
        reading = read_pickle(content, position, Symbols(), MOST_STEPS - steps)
        steps += reading.steps
        for name in reading.names:
            if name not in ALLOWED:
                problems.add("unsafe-serialisation", f"names {shown(name)} behind its end, which is code")
        position = reading.end
        if reading.broken is not None or position >= len(content):
            return
