"""Measure what the plugin costs, side by side in one run, and write ``seconds.md`` and ``seconds.json`` beside this.

Usage: python docs/benchmarks/measure.py [--runs N]      (from the repository, with the torch extra installed)
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve().parent
EXAMPLE = HERE.parent / "examples" / "mnist-badnet.onnx"
PACKAGES = ("pytest-backdoor", "pytest", "numpy", "onnx", "onnxruntime", "torch")


def commands() -> dict[str, list[str]]:
    """What is timed: each command by the name under which the table shows it."""
    pytest = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    scan = [*pytest, "--backdoor-scan", str(EXAMPLE), "-c", os.devnull, "--rootdir", str(HERE.parent.parent)]
    return {
        "pytest on an empty folder, plugin blocked": [*pytest, "-p", "no:backdoor"],
        "pytest on an empty folder, plugin installed": pytest,
        "python -c 'import pytest, onnxruntime'": [sys.executable, "-c", "import pytest, onnxruntime"],
        "scan: provenance, litmus": [*scan, "--backdoor-checks", "provenance,litmus"],
        "scan: reversal": [*scan, "--backdoor-checks", "reversal"],
        "scan: all checks": scan,
    }


def time_alternating(runs: int) -> dict[str, list[float]]:
    """Seconds of wall time of every command, one of each in turn so that a slow moment hits all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in commands()}
    with tempfile.TemporaryDirectory() as folder:
        for run in range(runs + 1):
            for name, command in commands().items():
                started = time.perf_counter()
                done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
                if done.returncode not in (0, 1, 5):
                    sys.exit(f"{name} ended with status {done.returncode}:\n{done.stdout}{done.stderr}")
                if run:  # The first round only warms the file cache.
                    seconds[name].append(time.perf_counter() - started)
    return seconds


def as_markdown(seconds: dict[str, list[float]], runs: int) -> str:
    """The table with medians and ranges, and the differences that users feel."""
    median = {name: statistics.median(values) for name, values in seconds.items()}
    names = list(seconds)
    lines = [
        "# Seconds",
        "",
        f"Written by `python docs/benchmarks/measure.py --runs {runs}` on {os.cpu_count()} cores "
        f"({platform.machine()}, {platform.system()}), Python {platform.python_version()}; "
        + ", ".join(f"{name} {version(name)}" for name in PACKAGES)
        + f". Wall time of whole processes, n = {runs} each, alternating.",
        "",
        "| command | median s | fastest | slowest |",
        "| --- | --- | --- | --- |",
        *(
            f"| {name} | {median[name]:.3f} | {min(values):.3f} | {max(values):.3f} |"
            for name, values in seconds.items()
        ),
        "",
        "| difference of medians | s |",
        "| --- | --- |",
        f"| installed but unused | {median[names[1]] - median[names[0]]:.3f} |",
        f"| provenance and litmus, beyond the two imports | {median[names[3]] - median[names[2]]:.3f} |",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=15, metavar="N", help="runs of each command; default: %(default)s")
    runs = parser.parse_args().runs
    seconds = time_alternating(runs)
    (HERE / "seconds.json").write_text(json.dumps(seconds, indent=1) + "\n", encoding="utf-8")
    text = as_markdown(seconds, runs)
    (HERE / "seconds.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
