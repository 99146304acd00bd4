"""The step that installs the plugin into an environment of its own, so that nothing of the project is changed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from inputs import Inputs, kept_inputs

HERE = Path(__file__).resolve().parent


def install(environment: Mapping[str, str]) -> int:
    """Make the environment and install into it; the exit status is that of the first command that fails."""
    folder = Path(environment["FOLDER"])
    inputs = kept_inputs(folder)
    settings = {**environment, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    if inputs.cache:
        settings["PIP_CACHE_DIR"] = environment["CACHE_PATH"]
    for command in [[sys.executable, "-m", "venv", str(folder / "venv")], *commands(inputs, python_of(folder))]:
        print("+", *command, flush=True)
        status = subprocess.run(command, env=settings, check=False).returncode
        if status:
            return status
    return 0


def commands(inputs: Inputs, python: Path) -> list[list[str]]:
    """What is installed: everything pinned with hashes, torch by version, then the plugin alone.

    The plugin is built from the source that the action itself consists of, unless the workflow names a version.
    """
    pip = [str(python), "-m", "pip", "install"]
    plugin = f"pytest-backdoor=={inputs.version}" if inputs.version else str(HERE.parent)
    found = [
        [*pip, "--require-hashes", "--requirement", str(HERE / "requirements.txt")],
        [*pip, "--no-deps", *_index(inputs), "--requirement", str(HERE / "torch.txt")],
        # Nothing is downloaded for the build: its backend is among what is pinned.
        [*pip, "--no-deps", "--no-build-isolation", plugin],
    ]
    if inputs.torch_index == "none":
        del found[1]
    return found


def _index(inputs: Inputs) -> list[str]:
    return ["--index-url", inputs.torch_index] if inputs.torch_index else []


def python_of(folder: Path) -> Path:
    """The interpreter of the environment in ``folder``."""
    return folder / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
