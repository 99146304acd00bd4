"""What results were measured with."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version


def machine() -> str:
    """The machine, without its name."""
    return f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}"


def versions() -> dict[str, str]:
    """The versions of what decides the numbers."""
    return {package: version(package) for package in ("pytest-backdoor", "torch", "numpy")}
