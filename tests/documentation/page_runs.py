"""Running the commands of a page, block after block, in one folder; ``cd`` holds for the blocks below."""

from __future__ import annotations

import doctest
import os
import shlex
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from page_blocks import ROOT, Block
from page_fixtures import prepare

LEFT_OUT = (
    "CI",
    "GITHUB_ACTIONS",
    "PYTEST_ADDOPTS",
    "PYTEST_CURRENT_TEST",
    "PYTEST_XDIST_WORKER",
    "BACKDOOR_DATA_ROOT",
)
UNEXPECTED = 99


def run_page(blocks: list[Block], folder: Path, *, slow: bool, timeout: float) -> None:
    """Run what a page tells the reader to do, in order; fails the test at the first thing that is not as it says."""
    environment = _environment()
    printed = ""
    with ExitStack() as stack:
        for block in blocks:
            if block.not_run or ("slow" in block.note and not slow):
                continue
            if "file" in block.note:
                path = current(folder) / block.note["file"]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block.text + "\n", encoding="utf-8")
            elif "output" in block.note:
                _compare(block, printed)
            elif block.is_command:
                prepare(block.needs(), folder, environment, stack)
                printed = _run(block, folder, environment, timeout)


def current(folder: Path) -> Path:
    """Where the last block of the page in ``folder`` ended."""
    kept = folder.parent / "current"
    return Path(kept.read_text(encoding="utf-8").rstrip("\n")) if kept.exists() else folder


def _environment() -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if name not in LEFT_OUT}
    scripts = Path(sys.executable).parent
    environment["PATH"] = os.pathsep.join([str(scripts), environment["PATH"]])
    # A copy that is not installed is tested where the tests run in one.
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), environment.get("PYTHONPATH")]))
    return environment | {"COLUMNS": "100", "NO_COLOR": "1", "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}


def _run(block: Block, folder: Path, environment: dict[str, str], timeout: float) -> str:
    script = "\n".join(
        f"{command}\nstatus=$?; [ $status -eq {status} ] || {{ echo expected exit status {status}, got $status: "
        f"{shlex.quote(command)}; exit {UNEXPECTED}; }}"
        for command, status in zip(block.commands(), block.statuses(), strict=True)
    )
    script += f"\npwd > {shlex.quote(str(folder.parent / 'current'))}\n"
    try:
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=current(folder),
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        pytest.fail(f"{block.where} took more than {timeout:g} seconds:\n{error.output}", pytrace=False)
    if done.returncode != 0:
        pytest.fail(f"{block.where} did not do what it says:\n{done.stdout}", pytrace=False)
    return done.stdout


def _compare(block: Block, printed: str) -> None:
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    wanted = f"...{block.text.strip()}..."
    if not doctest.OutputChecker().check_output(wanted, f"{printed.strip()}\n", flags):
        pytest.fail(f"{block.where} is not what is printed:\n{printed}", pytrace=False)
