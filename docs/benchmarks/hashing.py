"""Compare how fast files are hashed with ``sha256sum``; write ``hashing.md`` and ``hashing.json`` beside this.

Usage: python docs/benchmarks/hashing.py [--runs N] [--megabytes N]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from pytest_backdoor.models._reading import read_file

HERE = Path(__file__).resolve().parent
LEAST_RATIO = 0.8
TOOL = "sha256sum"


def ways(path: Path, size: int) -> dict[str, Callable[[], str]]:
    """What is timed: each way to hash the file, by the name under which the table shows it."""

    def tool() -> str:
        done = subprocess.run([TOOL, path], capture_output=True, text=True, check=True)
        return done.stdout.split()[0].removeprefix("\\")

    def library() -> str:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()

    return {
        TOOL: tool,
        "hashlib.file_digest": library,
        "lock check: hashed, content not kept": lambda: read_file(path, keep=-1).sha256,
        "scan: hashed, content kept": lambda: read_file(path, keep=size).sha256,
    }


def time_alternating(runs: int, size: int) -> dict[str, list[float]]:
    """Seconds of wall time of every way, one of each in turn so that a slow moment hits all alike."""
    seconds: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.bin"
        with path.open("wb") as stream:
            for _ in range(size >> 20):
                stream.write(os.urandom(1 << 20))
        hashes = set()
        for run in range(runs + 1):
            for name, way in ways(path, size).items():
                started = time.perf_counter()
                hashes.add(way())
                if run:  # The first round only warms the file cache.
                    seconds.setdefault(name, []).append(time.perf_counter() - started)
        if len(hashes) != 1:
            sys.exit(f"The ways disagree on the hash: {hashes}")
    return seconds


def as_markdown(seconds: dict[str, list[float]], runs: int, size: int, load: float) -> str:
    """The table with medians, ranges and the speed compared with the tool's."""
    tool = statistics.median(seconds[TOOL])
    rows = (
        f"| {name} | {statistics.median(values):.3f} | {min(values):.3f} | {max(values):.3f} "
        f"| {size / 1e9 / statistics.median(values):.2f} | {tool / statistics.median(values):.2f} |"
        for name, values in seconds.items()
    )
    lines = [
        "# Hashing",
        "",
        f"Written by `python docs/benchmarks/hashing.py --runs {runs} --megabytes {size >> 20}` on {os.cpu_count()} "
        f"cores ({platform.machine()}, {platform.system()}), Python {platform.python_version()}, pytest-backdoor "
        f"{version('pytest-backdoor')}, {tool_version()}. One file of {size:,} random bytes in the file cache, n = "
        f"{runs} each, alternating, one thread. Load average at the start: {load:.1f}"
        + (", so other work shared the cores." if load > 0.5 else "."),
        "",
        "| way | median s | fastest | slowest | GB/s | speed / sha256sum |",
        "| --- | --- | --- | --- | --- | --- |",
        *rows,
        "",
        f"Required: at least {LEAST_RATIO} times the speed of {TOOL} for the last two.",
        "",
    ]
    return "\n".join(lines)


def tool_version() -> str:
    """Name and version of the tool that is compared with."""
    return subprocess.run([TOOL, "--version"], capture_output=True, text=True, check=True).stdout.split("\n")[0]


def main() -> None:
    """Measure and write; exit status 1 if it is too slow."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=9, metavar="N", help="runs of each way; default: %(default)s")
    parser.add_argument("--megabytes", type=int, default=1024, metavar="N", help="size; default: %(default)s")
    options = parser.parse_args()
    if shutil.which(TOOL) is None:
        sys.exit(f"{TOOL} is not installed; there is nothing to compare with.")
    load = os.getloadavg()[0]
    size = options.megabytes << 20
    seconds = time_alternating(options.runs, size)
    (HERE / "hashing.json").write_text(json.dumps(seconds, indent=1) + "\n", encoding="utf-8")
    text = as_markdown(seconds, options.runs, size, load)
    (HERE / "hashing.md").write_text(text, encoding="utf-8")
    print(text)
    medians = [statistics.median(values) for values in seconds.values()]
    if any(medians[0] / median < LEAST_RATIO for median in medians[2:]):
        sys.exit(1)


if __name__ == "__main__":
    main()
