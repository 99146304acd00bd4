"""The checks: each asks one question of a model.

``check_names`` lists those that are installed. What a check of your own is made of (``Check``, ``BehaviouralCheck``,
``Context``, ``Cost``, ``Measurement``) is loaded at first use.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from ..errors import SettingsError

if TYPE_CHECKING:
    from ..settings import ScanSettings
    from ._base import BehaviouralCheck, Check, Context, Cost, Measurement

__all__ = [
    "BehaviouralCheck",
    "Check",
    "Context",
    "Cost",
    "Measurement",
    "check_names",
    "load_check",
    "planned_checks",
]

GROUP = "pytest_backdoor.checks"
TRAINING_DATA = "training-data"
CHEAPEST_FIRST = ("provenance", "litmus", "margin", "reversal", TRAINING_DATA)


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import _base

    found: object = getattr(_base, name)
    return found


@cache
def _installed() -> dict[str, EntryPoint]:
    found = {point.name: point for point in entry_points(group=GROUP)}
    known = [name for name in CHEAPEST_FIRST if name in found]
    return {name: found[name] for name in [*known, *sorted(set(found) - set(known))]}


def check_names(wanted: tuple[str, ...] | None = None) -> tuple[str, ...]:
    """The names of the installed checks, or of the ``wanted`` ones, from the cheapest to the dearest.

    Nothing is imported. Raises SettingsError for a name that no installed check has.
    """
    installed = _installed()
    unknown = [name for name in wanted or () if name not in installed]
    if unknown:
        raise SettingsError(f"There is no check named {', '.join(unknown)}; installed: {', '.join(installed)}.")
    return tuple(name for name in installed if wanted is None or name in wanted)


def planned_checks(settings: ScanSettings) -> tuple[str, ...]:
    """The checks of a scan with ``settings``: the wanted ones, else all that apply.

    The check of the training set applies where there is one. Raises as ``check_names``.
    """
    left_out = {TRAINING_DATA} if settings.checks is None and settings.train_data is None else set()
    return tuple(name for name in check_names(settings.checks) if name not in left_out)


def load_check(name: str) -> Check:
    """A new instance of the check ``name``. Raises SettingsError if it cannot be loaded."""
    (name,) = check_names((name,))
    point = _installed()[name]
    try:
        check: Check = point.load()()
    except Exception as error:  # a third party's code
        raise SettingsError(f"The check {name} ({point.value}) cannot be loaded: {error}") from error
    return check
