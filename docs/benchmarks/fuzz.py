"""Damage genuine files and scan each; writes ``docs/results/damaged-files.md`` and ``.json``.

Usage: python docs/benchmarks/fuzz.py [--files N] [--seed N] [--workers N]      (from the repository, with torch)
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from fuzzing import MEMORY_MB, TIMEOUT_SECONDS, Outcomes, fuzz  # noqa: E402  (the tests' folder is no package)

PACKAGES = ("pytest-backdoor", "onnx", "onnxruntime", "torch", "safetensors")
FILES_A_JOB = 100
COLUMNS = (
    "genuine file",
    "damaged",
    "provenance failed",
    "provenance error",
    "broke a rule beside its hash",
    "litmus error",
    "still a model that litmus could ask",
)


def job(seeds: range) -> Outcomes:
    """What became of the files of some seeds."""
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as silence:
        before, sys.stdout = sys.stdout, silence  # what the lock command prints
        try:
            return fuzz(Path(folder), seeds)
        finally:
            sys.stdout = before


def main() -> None:
    """Run everything and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0, help="the first file's; each further one has the next")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "damaged-files.md")
    arguments = parser.parse_args()
    last = arguments.seed + arguments.files
    jobs = [range(first, min(last, first + FILES_A_JOB)) for first in range(arguments.seed, last, FILES_A_JOB)]
    outcomes, started = Outcomes(), time.monotonic()
    with ProcessPoolExecutor(arguments.workers, mp_context=get_context("spawn")) as pool:
        for number, found in enumerate(pool.map(job, jobs), start=1):
            outcomes.add(found)
            print(f"{number} of {len(jobs)} jobs, {outcomes.files.total()} files, {len(outcomes.passed)} passed")
    seconds = time.monotonic() - started
    arguments.out.write_text(as_markdown(outcomes, arguments, seconds), encoding="utf-8")
    arguments.out.with_suffix(".json").write_text(as_json(outcomes, seconds), encoding="utf-8")
    sys.exit(1 if outcomes.passed else 0)


def as_json(outcomes: Outcomes, seconds: float) -> str:
    """All counts."""
    counts = {name: dict(getattr(outcomes, name)) for name in ("files", "ended")}
    pairs = {
        name: {" ".join(key): number for key, number in sorted(getattr(outcomes, name).items())}
        for name in ("provenance", "litmus", "rules")
    }
    values = {**counts, **pairs, "passed": outcomes.passed, "slowest": outcomes.slowest, "seconds": round(seconds)}
    return json.dumps(values, indent=1) + "\n"


def as_markdown(outcomes: Outcomes, arguments: argparse.Namespace, seconds: float) -> str:
    """The table of outcomes by file, and what else happened."""
    names = sorted(outcomes.files)
    ended = ", ".join(f"{what}: {number}" for what, number in sorted(outcomes.ended.items())) or "none"
    lines = [
        "# Damaged files",
        "",
        _origin(outcomes, arguments, seconds),
        "",
        f"- let pass by provenance: {len(outcomes.passed)}",
        f"- slowest scan: {outcomes.slowest[0]:.1f} s",
        f"- scans whose process was stopped, an `error` each: {ended}",
        f"- files of which the asking process got no answer: {arguments.files - outcomes.files.total()}",
        "",
        f"| {' | '.join(COLUMNS)} |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *(_row(outcomes, name) for name in names),
        "",
    ]
    return "\n".join(lines)


def _origin(outcomes: Outcomes, arguments: argparse.Namespace, seconds: float) -> str:
    used = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        f"Written by `python docs/benchmarks/fuzz.py --files {arguments.files} --seed {arguments.seed} --workers "
        f"{arguments.workers}` on {os.cpu_count()} cores ({platform.machine()}, {platform.system()}), Python "
        f"{platform.python_version()}; {used}. Each of {outcomes.files.total()} files is a genuine one with one to "
        "eight random changes (`tests/mutations.py`); the lock file lists the genuine one. Every file is scanned by "
        f"provenance and litmus in a process of its own with {TIMEOUT_SECONDS} s and {MEMORY_MB} MB. "
        f"{seconds / outcomes.files.total() * 1000:.0f} ms a file."
    )


def _row(outcomes: Outcomes, name: str) -> str:
    judged = sum(number for (file, outcome), number in outcomes.litmus.items() if file == name and outcome != "error")
    rules = ", ".join(f"{rule} {number}" for (file, rule), number in sorted(outcomes.rules.items()) if file == name)
    return (
        f"| {name} | {outcomes.files[name]} | {outcomes.provenance[name, 'failed']} | "
        f"{outcomes.provenance[name, 'error']} | {rules} | {outcomes.litmus[name, 'error']} | {judged} |"
    )


if __name__ == "__main__":
    main()
