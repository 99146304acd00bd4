"""Which tables and figures can be reproduced, and the module that holds each."""

from __future__ import annotations

from importlib import import_module

from .parts import Part

# In the order of the paper. Every module has a dictionary PARTS of these names.
MODULES = {
    "figure-4": "digits",
    "table-2": "digits",
    "figure-5": "digits",
    "figure-6": "digits",
    "table-4": "signs",
    "figure-8": "signs",
    "table-5": "signs",
    "figure-9": "transfer",
    "table-6": "transfer",
    "figure-11": "transfer",
    "table-7": "transfer",
}


def numbers(kind: str) -> list[int]:
    """The numbers of the paper's tables or figures, ``kind`` "table" or "figure", that can be reproduced."""
    return sorted(int(name.removeprefix(f"{kind}-")) for name in MODULES if name.startswith(f"{kind}-"))


def find_part(name: str) -> Part:
    """The part of that name, such as ``table-2``."""
    part: Part = import_module(f"{__package__}.{MODULES[name]}").PARTS[name]
    return part
