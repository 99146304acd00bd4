"""A paper whose tables and figures can be reproduced part by part, and the settings of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

Values = dict[str, Any]
KINDS = ("table", "figure")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a part is measured.

    ``small``: the reduced variant, within ten minutes on two cores. ``workers``: processes at most. ``work``: the
    folder of trained networks; what is there already is used. ``data_root``: as in ``data.data_root``. ``say``: is told
    in a few words what is being done. ``training``: whether what is missing is trained; only a paper that can be
    reported in part is asked to do without.
    """

    seed: int
    small: bool
    workers: int
    work: Path
    data_root: str | None
    say: Callable[[str], None]
    training: bool = True


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


@dataclass(frozen=True, kw_only=True)
class Paper:
    """One paper, all of whose parts appear in one report.

    ``name``: of the action, and the first word of its files. ``heading`` and ``introduction``: what the report starts
    with. ``package``: where its modules are. ``modules``: the module of each part, which has a dictionary ``PARTS`` of
    these names, in the order of the paper. A part is called ``table-2``, ``figure-4``, or by a word. ``in_part``:
    whether its parts can be measured from what a run that was stopped has left.
    """

    name: str
    heading: str
    introduction: str
    package: str
    modules: Mapping[str, str]
    in_part: bool = False

    def numbers(self, kind: str) -> list[int]:
        """The numbers of the paper's tables or figures, ``kind`` "table" or "figure", that can be reproduced."""
        return sorted(int(name.removeprefix(f"{kind}-")) for name in self.modules if name.startswith(f"{kind}-"))

    def words(self) -> list[str]:
        """The names of the parts that are neither tables nor figures."""
        return [name for name in self.modules if not name.startswith(tuple(f"{kind}-" for kind in KINDS))]

    def find_part(self, name: str) -> Part:
        """The part of that name. Its module, with all that it needs, is imported only now."""
        part: Part = import_module(f"{self.package}.{self.modules[name]}").PARTS[name]
        return part
