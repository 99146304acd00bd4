"""What a reproducible part of the paper consists of, and the settings of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Values = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a part is measured.

    ``small``: the reduced variant, within ten minutes on two cores. ``workers``: processes at most. ``work``: the
    folder of trained networks; what is there already is used. ``data_root``: as in ``data.data_root``. ``say``: is told
    in a few words what is being done.
    """

    seed: int
    small: bool
    workers: int
    work: Path
    data_root: str | None
    say: Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Part:
    """One table or figure.

    ``measure``: trains what is missing and returns JSON values. ``text``: the body of its section, in Markdown, from
    these values, with the paper's numbers beside them. ``draw``: PNG pictures of these values by the suffix of their
    file names, "" for the only one.
    """

    title: str
    measure: Callable[[Settings], Values]
    text: Callable[[Values], str]
    draw: Callable[[Values], Mapping[str, bytes]] | None = None
