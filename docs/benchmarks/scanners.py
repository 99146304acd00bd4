"""What this project and other scanners say of every bad file of the tests' corpus; writes ``docs/results/bad-files.*``.

Usage: python docs/benchmarks/scanners.py [--scanners FOLDER] [--only ROW ...]

FOLDER is a virtual environment with modelscan, picklescan and fickling (pip install modelscan picklescan fickling
typing_extensions); without it, only this project's column is filled. Every scanner runs in a process of its own with
limits of 60 seconds and 6 GB, in an empty folder. Each file's payload would make a file, the canary; after every
scanner it is looked for.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pkgutil
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

import corpus  # noqa: E402  (the tests' folder is no package)

SECONDS, MEMORY = 60, 6 * 2**30
SCANNERS = ("modelscan", "picklescan", "fickling")
# What their exit status means, as their documentation has it.
MEANING = {
    "modelscan": {0: "passes", 1: "stops", 2: "error", 3: "nothing scanned"},
    "picklescan": {0: "passes", 1: "stops", 2: "error"},
    "fickling": {0: "passes", 1: "stops", 2: "error"},
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """What every scanner said of one bad file. ``executed``: the scanners after which the canary was there."""

    row: int
    name: str
    ours: str
    rules: tuple[str, ...]
    others: dict[str, str]
    executed: tuple[str, ...]


def main() -> None:
    """Run everything and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scanners", type=Path, metavar="FOLDER")
    parser.add_argument("--only", type=int, nargs="+", metavar="ROW")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results" / "bad-files.md")
    arguments = parser.parse_args()
    rows = [judge(case, arguments.scanners) for case in cases() if not arguments.only or case.row in arguments.only]
    versions = _versions(arguments.scanners)
    arguments.out.write_text(as_markdown(rows, versions), encoding="utf-8")
    document = {"versions": versions, "cases": [asdict(row) for row in rows]}
    arguments.out.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def cases() -> Iterator[corpus.Case]:
    """All bad files, by row."""
    modules = [importlib.import_module(f"corpus.{found.name}") for found in pkgutil.iter_modules(corpus.__path__)]
    every = [case for module in modules for case in getattr(module, "CASES", ())]
    return iter(sorted(every, key=lambda case: (case.row, case.name)))


def judge(case: corpus.Case, scanners: Path | None) -> Row:
    """Ask every scanner about one file, each about a fresh copy."""
    executed = []
    with _written(case) as (path, canary):
        outcome, rules = ours(path)
        executed += ["pytest-backdoor"] if canary.exists() else []
    others = {}
    for scanner in SCANNERS if scanners else ():
        with _written(case) as (path, canary):
            others[scanner] = other(scanner, path, scanners)
            executed += [scanner] if canary.exists() else []
    print(f"{case.row:2} {case.name}: {outcome} {', '.join(rules)} {others}", flush=True)
    return Row(row=case.row, name=case.name, ours=outcome, rules=rules, others=others, executed=tuple(executed))


class _written:  # noqa: N801  (used like a function)
    """A case in a folder of its own, gone afterwards."""

    def __init__(self, case: corpus.Case) -> None:
        self._case = case

    def __enter__(self) -> tuple[Path, Path]:
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        folder = Path(self._folder.name) / "project"
        folder.mkdir()
        canary = Path(self._folder.name) / "canary"
        return self._case.write(folder, canary), canary

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()


def ours(path: Path) -> tuple[str, tuple[str, ...]]:
    """Outcome and rules of this project's provenance check, in a process of its own."""
    code = (
        "import json, sys, pytest_backdoor\n"
        "path, root = sys.argv[1:]\n"
        "report = pytest_backdoor.scan(path, root=root, checks=('provenance',)).to_json()\n"
        "print(json.dumps(report['models'][0]['findings'][0]))\n"
    )
    root = next(folder for folder in path.parents if folder.name == "project")
    done = _limited([sys.executable, "-P", "-c", code, str(path), str(root)])
    if isinstance(done, str) or done.returncode:
        return (f"crash: {done if isinstance(done, str) else done.stderr.strip()[-200:]}", ())
    finding: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    failing = [problem["rule"] for problem in finding["problems"] if problem["fails"] and not problem["allowed"]]
    return finding["outcome"], tuple(dict.fromkeys(failing))


def other(scanner: str, path: Path, environment: Path) -> str:
    """What another scanner's exit status means."""
    program = str(environment / "bin" / scanner)
    arguments = ["--check-safety", str(path)] if scanner == "fickling" else ["-p", str(path)]
    done = _limited([program, *arguments])
    if isinstance(done, str):
        return done
    return MEANING[scanner].get(done.returncode, f"crash ({done.returncode})")


def _limited(command: Sequence[str]) -> subprocess.CompletedProcess[str] | str:
    def limits() -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))

    with tempfile.TemporaryDirectory() as folder:
        try:
            return subprocess.run(
                command,
                cwd=folder,
                capture_output=True,
                text=True,
                errors="replace",
                check=False,
                timeout=SECONDS,
                preexec_fn=limits,
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            )
        except subprocess.TimeoutExpired:
            return "over the time limit"


def _versions(environment: Path | None) -> dict[str, str]:
    versions = {"pytest-backdoor": version("pytest-backdoor"), "python": platform.python_version()}
    if environment:
        code = f"from importlib.metadata import version; print(*(version(n) for n in {SCANNERS!r}))"
        found = subprocess.run([environment / "bin" / "python", "-c", code], capture_output=True, text=True, check=True)
        versions |= dict(zip(SCANNERS, found.stdout.split(), strict=True))
    return versions


def as_markdown(rows: Sequence[Row], versions: dict[str, str]) -> str:
    """The table, and how many files each scanner lets pass."""
    columns = list(rows[0].others) if rows else []
    lines = [
        "# Bad files, and what scanners say of them",
        "",
        _origin(rows, versions),
        "",
        "| scanner | stops | passes | scanned nothing | error, crash or limit | ran the payload |",
        "| --- | --- | --- | --- | --- | --- |",
        *(_totals(rows, name) for name in ("pytest-backdoor", *columns)),
        "",
        "| row | file | pytest-backdoor | rules | " + " | ".join(columns) + " |",
        "| --- | --- | --- | --- |" + " --- |" * len(columns),
        *(
            f"| {row.row} | {row.name} | {row.ours} | {', '.join(row.rules)} | "
            + " | ".join(row.others[name] for name in columns)
            + " |"
            for row in rows
        ),
        "",
    ]
    return "\n".join(lines)


def _origin(rows: Sequence[Row], versions: dict[str, str]) -> str:
    used = ", ".join(f"{name} {number}" for name, number in versions.items())
    return (
        f"Written by `python docs/benchmarks/scanners.py`: {len(rows)} small bad files for "
        f"{len({row.row for row in rows})} rows of the table in [bad-files.md](../bad-files.md), n = 1 run each, no "
        f"randomness; {used}. Limits for each: {SECONDS} s and {MEMORY // 2**30} GB. A scanner *passes* a file if its "
        "exit status says that all is well. The other scanners look for code in pickles; that they know nothing of "
        "lock files, ONNX or signatures is no fault of theirs, but a gate that relies on one of them lets such files "
        "through."
    )


def _totals(rows: Sequence[Row], scanner: str) -> str:
    said = [{"failed": "stops", "error": "stops", "passed": "passes", "not_assessed": "passes"}.get(row.ours, row.ours)
            if scanner == "pytest-backdoor" else row.others[scanner] for row in rows]  # fmt: skip
    counts = [said.count(answer) for answer in ("stops", "passes", "nothing scanned")]
    ran = sum(scanner in row.executed for row in rows)
    return f"| {scanner} | {' | '.join(map(str, counts))} | {len(said) - sum(counts)} | {ran} |"


if __name__ == "__main__":
    main()
