"""Build what is published and try it as a user gets it: from the wheel alone, in a fresh environment.

    python .ci/release.py build dist                        wheel and sdist, their metadata and what is in the wheel
    python .ci/release.py try dist oldest --torch none      install with the oldest (or newest) versions and scan

``build`` needs build, twine and check-wheel-contents; ``try`` needs uv, which fetches the Python that it is told.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MOST_BYTES = 5_000_000
WANTED = (
    *(f"pytest_backdoor/calibration/packs/{task}.npz" for task in ("cifar10", "gtsrb", "mnist")),
    *(f"pytest_backdoor/examples/mnist-{kind}.onnx" for kind in ("badnet", "clean")),
    "pytest_backdoor/py.typed",
)
# Without torch, two checks of behaviour are not assessed; the other one sees this backdoor alone.
EXPECTED = {"mnist-badnet.onnx": (1, "suspicious"), "mnist-clean.onnx": (0, "clean")}


def main() -> int:
    """Run one of the commands above; anything that is not as it should be ends it with a sentence."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build")
    build.add_argument("folder", type=Path)
    attempt = commands.add_parser("try")
    attempt.add_argument("folder", type=Path)
    attempt.add_argument("versions", choices=["oldest", "newest"])
    attempt.add_argument("--python", default=f"{sys.version_info.major}.{sys.version_info.minor}")
    attempt.add_argument("--torch", default="cpu", help="cpu, default (of the index), none, or a folder of wheels")
    arguments = parser.parse_args()
    if arguments.command == "build":
        build_all(arguments.folder)
    else:
        try_wheel(wheel_in(arguments.folder), arguments.versions, arguments.python, arguments.torch)
    return 0


def build_all(folder: Path) -> None:
    """Build into the empty ``folder`` and look at what came out."""
    if folder.exists() and any(folder.iterdir()):
        sys.exit(f"{folder} is not empty; name a new folder.")
    run([sys.executable, "-m", "build", "--outdir", folder, ROOT])
    wheel = wheel_in(folder)
    files: list[str | Path] = [*sorted(folder.iterdir())]
    run([sys.executable, "-m", "twine", "check", "--strict", *files])
    run([sys.executable, "-m", "check_wheel_contents", "--config", ROOT / "pyproject.toml", wheel])
    names = zipfile.ZipFile(wheel).namelist()
    lacking = [name for name in WANTED if name not in names]
    superfluous = [name for name in names if name.split("/")[0] == "tests" or "/tests/" in name]
    size = wheel.stat().st_size
    if lacking or superfluous or size >= MOST_BYTES:
        sys.exit(f"{wheel} ({size} bytes, at most {MOST_BYTES}): lacks {lacking}, and {superfluous} must not be in it.")
    print(f"{wheel.name}: {size} bytes, {len(names)} files")


def wheel_in(folder: Path) -> Path:
    """The only wheel in ``folder``."""
    wheels = sorted(folder.resolve().glob("*.whl"))
    if len(wheels) != 1:
        sys.exit(f"{folder} holds {len(wheels)} wheels, not one; build into a new folder.")
    return wheels[0]


def try_wheel(wheel: Path, versions: str, python: str, torch: str) -> None:
    """Install ``wheel`` into a fresh environment and scan both example models in an empty folder."""
    with tempfile.TemporaryDirectory(prefix="release-") as scratch:
        environment, project = Path(scratch) / "environment", Path(scratch) / "project"
        run(["uv", "venv", "--python", python, environment])
        commands = environment / ("Scripts" if os.name == "nt" else "bin")
        install: list[str | Path] = ["uv", "pip", "install", "--python", commands / "python"]
        if versions == "oldest":
            # To uv, what a wheel depends on is not direct: it must be told the same list apart.
            extras = [] if torch == "none" else ["--extra", "torch"]
            lowest = [*install, "--resolution", "lowest-direct", "--requirements", ROOT / "pyproject.toml"]
            run([*lowest, *extras, *source_of_torch(torch)])
        run([*install, str(wheel) if torch == "none" else f"{wheel}[torch]", *source_of_torch(torch)])
        run(["uv", "pip", "freeze", "--python", commands / "python"])
        project.mkdir()
        run([commands / "pytest-backdoor", "examples"], cwd=project)
        for model, (status, verdict) in EXPECTED.items():
            reports = [f"--backdoor-report=report{suffix}" for suffix in (".json", ".html", ".sarif", ".md")]
            run([commands / "pytest", "--backdoor-scan", model, *reports], cwd=project, status=status)
            expect_report(project, model, verdict, every_check=torch != "none")
        lock = commands / "pytest-backdoor", "lock"
        run([*lock, "add", "--allow-ci", *EXPECTED], cwd=project)
        run([*lock, "check", *EXPECTED], cwd=project)
        run([commands / "python", "-m", "reference_attacks", "--help"], cwd=project)
    print(f"{wheel.name} works with the {versions} versions on Python {python} (torch: {torch})")


def source_of_torch(torch: str) -> list[str]:
    """Options that say where uv takes torch from; everything else is from the default index."""
    if torch in ("none", "default"):
        return []
    return ["--torch-backend", "cpu"] if torch == "cpu" else ["--find-links", torch]


def expect_report(project: Path, model: str, verdict: str, *, every_check: bool) -> None:
    """Compare the verdict; with torch, every check of behaviour must have been made."""
    (found,) = json.loads((project / "report.json").read_text(encoding="utf-8"))["models"]
    idle = [
        check["check"] for check in found["findings"] if check["behavioural"] and check["outcome"] == "not_assessed"
    ]
    if found["verdict"] != verdict or (every_check and idle):
        sys.exit(f"{model} is {found['verdict']}, not {verdict}; not assessed: {idle}.")


def run(command: Sequence[str | Path], *, cwd: Path | None = None, status: int = 0) -> None:
    """Run ``command``, whose exit status must be ``status``, without what may lie about in this repository."""
    print("+", *command, flush=True)
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    got = subprocess.run([str(word) for word in command], cwd=cwd, env=environment, check=False).returncode
    if got != status:
        sys.exit(f"exit status {got}, not {status}: {' '.join(map(str, command))}")


if __name__ == "__main__":
    sys.exit(main())
