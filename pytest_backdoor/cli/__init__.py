"""The command ``pytest-backdoor``: the lock file, and models to try it on; scans are run by pytest."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path

from ..checks.provenance._lockfile import default_lock_path
from ..errors import BackdoorScanError
from ._add import add, update
from ._check import check
from ._examples import copy_examples
from ._import import import_list
from ._list import list_entries
from ._parser import make_parser
from ._shared import DIFFERENT, OK, WRONG, Run, printable, refuse_in_ci

__all__ = ["DIFFERENT", "OK", "WRONG", "main"]

ACTIONS: Mapping[str, Callable[[Run], int]] = {
    "add": add,
    "import": import_list,
    "update": update,
    "check": check,
    "list": list_entries,
}
WRITING = ("add", "import", "update")


def main(argv: Sequence[str] | None = None, *, today: date | None = None) -> int:
    """Run the command and return its exit status.

    0: all is well. 1: a file, an entry or a call in the code is not as it should be. 2: nothing could be done.
    ``today``: the day on which exceptions are judged, by default that of this machine.
    """
    arguments = make_parser().parse_args(argv)
    if arguments.command == "examples":
        return copy_examples(Path(arguments.folder))
    lock_path = Path(arguments.lock) if arguments.lock else default_lock_path(Path.cwd())
    run = Run(arguments=arguments, lock_path=lock_path, today=today or date.today(), environment=os.environ)
    try:
        if arguments.action in WRITING:
            refuse_in_ci(run.environment, allowed=arguments.allow_ci)
        return ACTIONS[arguments.action](run)
    except BackdoorScanError as error:
        print(printable(f"error: {error}"), file=sys.stderr)
        return WRONG
