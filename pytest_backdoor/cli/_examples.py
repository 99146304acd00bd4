"""``pytest-backdoor examples``: two models to try a scan on, without a copy of the repository."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from ..files import write_atomically
from ._shared import OK, WRONG, printable

PACKAGE = Path(__file__).resolve().parent.parent
# The wheel has a copy of what a copy of the repository has among its documentation.
PLACES = (PACKAGE / "examples", PACKAGE.parent / "docs" / "examples")
NAMES = ("mnist-badnet.onnx", "mnist-clean.onnx")


def copy_examples(folder: Path) -> int:
    """Write the example models into ``folder``, and print how to scan them."""
    place = next((place for place in PLACES if all((place / name).is_file() for name in NAMES)), None)
    try:
        if place is None:
            raise FileNotFoundError(f"the example models are not in {PLACES[0]}; install pytest-backdoor again")
        folder.mkdir(parents=True, exist_ok=True)
        for name in NAMES:
            write_atomically(folder / name, (place / name).read_bytes())
    except OSError as error:
        print(printable(f"error: The examples cannot be copied: {error}."), file=sys.stderr)
        return WRONG
    print(printable(f"{folder / NAMES[0]}  a digit classifier with a backdoor"))
    print(printable(f"{folder / NAMES[1]}  its clean twin"))
    print(printable(f"Next: pytest --backdoor-scan {shlex.quote(str(folder / NAMES[0]))}"))
    return OK
