"""Audit neural networks for backdoors, from pytest or from Python.

Importing this package costs nothing: what it offers is loaded at first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .errors import BackdoorScanError, ModelError, NotAssessableError, SettingsError
    from .findings import Finding, ModelReport, Outcome, ScanReport, Verdict
    from .scanning import scan

__all__ = [
    "BackdoorScanError",
    "Finding",
    "ModelError",
    "ModelReport",
    "NotAssessableError",
    "Outcome",
    "ScanReport",
    "SettingsError",
    "Verdict",
    "scan",
]

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'pytest_backdoor' has no attribute {name!r}")
    from importlib import import_module

    home = "scanning" if name == "scan" else "errors" if name.endswith("Error") else "findings"
    found: object = getattr(import_module(f"pytest_backdoor.{home}"), name)
    return found
