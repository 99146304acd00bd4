"""``python -m tools.reference``: write the reference pages anew."""

from __future__ import annotations

from pytest_backdoor.files import write_atomically

from . import DOCS, FILES, made

for name in FILES:
    (DOCS / name).parent.mkdir(parents=True, exist_ok=True)
    write_atomically(DOCS / name, made(name).encode())
