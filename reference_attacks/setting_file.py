"""What all results of a folder have in common, as a file beside them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_backdoor.files import write_atomically

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

SETTING = "setting.json"


def keep_setting(folder: Path, setting: DataclassInstance, seed: int) -> None:
    """Write ``setting`` and ``seed`` into ``folder``. Raises ValueError if it holds results of others."""
    path = folder / SETTING
    values = json.loads(json.dumps({"seed": seed, **asdict(setting)}))
    if path.exists() and json.loads(path.read_text()) != values:
        raise ValueError(f"{path} tells of another setting; choose an empty folder.")
    write_atomically(path, json.dumps(values, indent=1).encode())
