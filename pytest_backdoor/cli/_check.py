"""``lock check``: files, entries and the project's code, without pytest."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from ..checks.provenance._changes import lock_changes
from ..checks.provenance._code_calls import project_code_problems
from ..checks.provenance._lockfile import MAX_BYTES, Artifact, Lock, parse_lock, read_lock
from ..checks.provenance._names import locate
from ..checks.provenance._origin import compare_with_hub
from ..checks.provenance._sources import source_of
from ..checks.provenance._sweep import unlisted_models
from ..checks.provenance._verify import verify
from ..errors import BackdoorScanError, LockError, ModelError
from ..models.hub import HUB_PREFIX
from ._shared import DIFFERENT, OK, Run, print_problem, printable, typed_name

GIT_SECONDS = 60


def check(run: Run) -> int:
    """Compare models with their entries and print what differs; without paths, the project's code too."""
    arguments = run.arguments
    lock = read_lock(run.lock_path)
    folders = [Path(path) for path in arguments.paths if Path(path).is_dir()]
    typed = [typed_name(path, run.lock_path) for path in arguments.paths if Path(path) not in folders]
    listed = [artifact.path for artifact in lock.artifacts]
    below = [name for folder in folders for name in listed if _lies_below(name, folder, lock)]
    names = list(dict.fromkeys([*typed, *below] if arguments.paths else listed))
    # What is listed is compared below with all that its entry asks for.
    apart = {Path(os.path.abspath(lock.folder / name)) for name in below}
    unlisted = [problem for folder in folders for problem in unlisted_models(folder, lock, leave_out=apart)]
    if not names and not unlisted:
        raise LockError(
            f"{run.lock_path} lists no models, so nothing was checked; add one with: pytest-backdoor lock add PATH"
        )
    agree = [_check_one(run, name, lock) for name in names]
    for problem in unlisted:
        print(printable(f"FAIL  {problem.path}"))
        print_problem(problem)
        agree.append(False)
    if arguments.online:
        agree.append(_check_online(run, names, lock))
    if not arguments.paths and not arguments.no_code:
        agree.append(_check_code(run))
    if arguments.since:
        agree.append(_check_changes(run, lock))
    return OK if all(agree) else DIFFERENT


def _lies_below(name: str, folder: Path, lock: Lock) -> bool:
    return not name.startswith(HUB_PREFIX) and (lock.folder / name).resolve().is_relative_to(folder.resolve())


def _check_one(run: Run, name: str, lock: Lock) -> bool:
    artifact = lock.find(name)
    try:
        path = locate(name, lock.folder)
        verification = verify(name, path, lock)
        problems = run.problems(verification, lock, path)
    except ModelError as error:
        print(printable(f"FAIL  {name}"))
        print(printable(f"      {error}"))
        return False
    good = not any(problem.blocks for problem in problems)
    how = f"  ({artifact.recorded_how})" if artifact and good else ""
    print(printable(f"{'ok   ' if good else 'FAIL '} {name}{how}"))
    for problem in problems:
        print_problem(problem)
    return good


def _check_online(run: Run, names: list[str], lock: Lock) -> bool:
    found = [artifact for artifact in map(lock.find, names) if artifact and source_of(artifact)["type"] == "hf"]
    if not found:
        raise LockError(
            f"None of the models to check in {run.lock_path} is from the Hub, so --online compared nothing."
        )
    agree = [_compare_online(run, artifact, lock) for artifact in found]  # all of them, not up to the first bad one
    return all(agree)


def _compare_online(run: Run, artifact: Artifact, lock: Lock) -> bool:
    try:
        moved = compare_with_hub(artifact, locate(artifact.path, lock.folder), run.resolve(lock))
    except BackdoorScanError as error:
        print(printable(f"FAIL  {artifact.path} on the Hub"))
        print(printable(f"      {error}"))
        return False
    print(printable(f"ok    {artifact.path} on the Hub"))
    if moved:
        print(printable(f"      note: {moved}"))
    return True


def _check_code(run: Run) -> bool:
    number, problems = project_code_problems(run.lock_path.parent)
    failing = [problem for problem in problems if problem.fails or run.arguments.strict]
    for problem in problems:
        print(printable(f"{'FAIL ' if problem in failing else 'note '} {problem.message}"))
        if problem in failing:
            print(printable(f"      {problem.rule}: {problem.remedy}"))
    untold = len(problems) - len(failing)
    print(
        f"{'FAIL ' if failing else 'ok   '} {number} Python files: {len(failing)} calls to mend"
        + (f", {untold} of which the code alone does not tell what they fetch" if untold else "")
    )
    return not failing


def _check_changes(run: Run, lock: Lock) -> bool:
    """Print what changed in the lock file since a git revision; False if something asks for less than then."""
    changes = lock_changes(_earlier(run.lock_path, run.arguments.since), lock)
    for change in changes:
        print(printable(f"{'FAIL ' if change.weaker else 'note '} {change.text}"))
    if not changes:
        print(printable(f"ok    {run.lock_path.name} is as it was at {run.arguments.since}"))
    return not any(change.weaker for change in changes)


def _earlier(lock_path: Path, revision: str) -> Lock:
    if revision.startswith("-"):
        raise LockError(f"{revision} is no git revision.")
    command = ["git", "-C", str(lock_path.parent), "show", f"{revision}:./{lock_path.name}"]
    try:
        result = subprocess.run(command, capture_output=True, timeout=GIT_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LockError(f"git could not be asked for {lock_path.name} at {revision} ({error}).") from error
    if result.returncode != 0 or len(result.stdout) > MAX_BYTES:
        reason = result.stderr.decode(errors="replace").strip() or "too large"
        raise LockError(f"git has no {lock_path.name} at {revision} ({reason}); name another revision.")
    return parse_lock(result.stdout, lock_path)
