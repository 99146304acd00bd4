"""Small inert bad files, made by code: each would harm a careless reader, and a canary shows whether anything ran."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Case:
    """One bad file.

    ``row``: its number in the table of ``docs/provenance.md``. ``write``: writes it (and what lies beside it) into an
    empty folder and gives the path of the model; the second argument is the path of the canary, which the payload
    would create if anything ran it. ``rules``: at least one of these must be reported.
    """

    row: int
    name: str
    write: Callable[[Path, Path], Path]
    rules: frozenset[str]
