"""On a terminal, the check that is running and for how long: who waits must not take it for one that hangs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ..scanning._session import OnWait

SECONDS_BEFORE = 2.0
# Where the cursor is was pytest's last word: it is kept, and what is written after it is removed again.
_KEEP, _BACK, _CLEAR = "\x1b7", "\x1b8", "\x1b[K"


@contextmanager
def shown_on_terminal(config: pytest.Config) -> Iterator[OnWait | None]:
    """What to tell of a check that takes long, its name and seconds; None where no terminal would show it."""
    if hasattr(config, "workerinput") or not config.get_terminal_writer().hasmarkup:
        yield None
        return
    status = _Status(config)
    try:
        yield status.show
    finally:
        status.remove()


class _Status:
    def __init__(self, config: pytest.Config) -> None:
        self._capture = config.pluginmanager.getplugin("capturemanager")
        self._shown = False

    def show(self, check: str, seconds: float) -> None:
        if seconds >= SECONDS_BEFORE:
            self._write(f"{_BACK if self._shown else _KEEP} {check} {seconds:.0f} s{_CLEAR}")

    def remove(self) -> None:
        if self._shown:
            self._write(f"{_BACK}{_CLEAR}")

    def _write(self, text: str) -> None:
        with self._uncaptured():
            if sys.stdout.isatty():
                self._shown = True
                sys.stdout.write(text)
                sys.stdout.flush()

    def _uncaptured(self) -> AbstractContextManager[None]:
        if self._capture is None:
            return nullcontext()
        uncaptured: AbstractContextManager[None] = self._capture.global_and_fixture_disabled()
        return uncaptured
