"""The check that asks: is this the file that was published, from where it should come, and safe to open?"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_backdoor.checks._base import Cost
from pytest_backdoor.errors import BackdoorScanError, LockError, ModelError
from pytest_backdoor.findings import Finding, Outcome, Problem
from pytest_backdoor.models.hub import HUB_PREFIX

from ._claims import declared_source_problems
from ._digests import subject_digests
from ._entry import Circumstances, entry_problems
from ._hub import subject_hub_problems
from ._lockfile import Lock, read_lock
from ._names import file_name
from ._verify import FileState, Verification, file_states, not_listed, verify

if TYPE_CHECKING:
    from pytest_backdoor.checks._base import Context
    from pytest_backdoor.models import Subject


class ProvenanceCheck:
    """Compares the model's files with what the lock file, the Hub and signatures say of them, and looks into them.

    Nothing is run or unpickled. Fails if a rule of ``pytest_backdoor.rules`` is broken and the lock file does not allow
    it; ``Finding.problems`` names each. Passes only if all files are listed and equal. Without a lock file, and with
    nothing else wrong, nothing can be said (``not_assessed``); a lock file or a model that cannot be read is an
    ``error``.
    """

    name = "provenance"
    behavioural = False
    cost = Cost.FILE

    def __init__(self, *, today: Callable[[], date] = date.today) -> None:
        """``today`` gives the day that exceptions must reach."""
        self._today = today

    def run(self, subject: Subject, context: Context) -> Finding:
        """The finding on one model; raises nothing on account of a bad model or lock file."""
        if subject.path is None:
            return self._finding(
                Outcome.NOT_ASSESSED,
                f"{subject.display} is a live model and has no file whose origin could be verified.",
                remedy="Scan the file that the model was loaded from.",
            )
        try:
            return self._of_file(subject, subject.path, context)
        except ModelError as error:
            return self._finding(Outcome.ERROR, str(error), evidence=_refusal(subject, error))

    def _of_file(self, subject: Subject, path: Path, context: Context) -> Finding:
        # What is wrong with the files is said whatever the lock file says, or if it cannot even be read.
        declared = declared_source_problems(context.settings.source, subject.display)
        found = [*subject.problems, *subject_hub_problems(subject), *declared]
        if context.settings.lock is None:
            return self._without_lock(subject, found)
        lock_path = context.root / context.settings.lock
        try:
            return self._with_lock(subject, path, read_lock(lock_path), found)
        except LockError as error:
            if any(problem.blocks for problem in found):
                return self._judged(found, _evidence(lock_path, file_states(subject.display, subject.files)))
            return self._finding(Outcome.ERROR, str(error), evidence=_refusal(subject, error))

    def _without_lock(self, subject: Subject, found: Sequence[Problem]) -> Finding:
        display = subject.display
        states = file_states(display, subject.files)
        evidence = _evidence(None, states)
        if any(problem.blocks for problem in found):
            return self._judged(found, evidence)
        others = f" (and {len(states) - 1} external data files)" if len(states) > 1 else ""
        summary = f"There is no lock file to compare {display} with; its SHA-256 is {states[0].sha256}{others}."
        remedy = (
            "Compare that with what the publisher states, then list the model with: pytest-backdoor lock add "
            f"{shlex.quote(display)}"
        )
        unlisted = Problem(rule="no-hash-listed", message=summary, remedy=remedy, path=display, fails=False)
        finding = self._finding(Outcome.NOT_ASSESSED, summary, remedy=remedy, evidence=evidence)
        return replace(finding, problems=(*found, unlisted))

    def _with_lock(self, subject: Subject, path: Path, lock: Lock, found: Sequence[Problem]) -> Finding:
        display = subject.display
        try:
            name = display if display.startswith(HUB_PREFIX) else file_name(path, lock.folder)
        except LockError as error:  # no entry could ever name this file
            evidence = _evidence(lock.path, file_states(display, subject.files))
            return self._judged([*found, not_listed(display, lock.path.name, str(error))], evidence)
        verification = verify(name, path, lock, subject.files, display=display)
        circumstances = Circumstances(today=self._today(), hub_endpoint=os.environ.get("HF_ENDPOINT", ""))
        problems = entry_problems(
            verification, lock, subject_digests(subject.files[0]), circumstances, display=display, found=found
        )
        evidence = _evidence(lock.path, verification.files, verification)
        if any(problem.blocks for problem in problems):
            return self._judged(problems, evidence)
        finding = self._finding(Outcome.PASSED, _agreement(verification, lock.path.name), evidence=evidence)
        return replace(finding, problems=tuple(problems))

    def _judged(self, problems: Sequence[Problem], evidence: dict[str, Any]) -> Finding:
        """The finding on a model that breaks rules."""
        blocking = [problem for problem in problems if problem.blocks]
        remedies = dict.fromkeys(problem.remedy for problem in blocking if problem.remedy)
        finding = self._finding(
            Outcome.FAILED,
            " ".join(dict.fromkeys(problem.message for problem in blocking)),
            remedy=" ".join(remedies),
            evidence=evidence,
        )
        return replace(finding, problems=tuple(dict.fromkeys(problems)))

    def _finding(
        self, outcome: Outcome, summary: str, *, remedy: str = "", evidence: dict[str, Any] | None = None
    ) -> Finding:
        return Finding(
            check=self.name,
            outcome=outcome,
            summary=summary,
            behavioural=self.behavioural,
            remedy=remedy,
            evidence=evidence or {},
        )


def _agreement(verification: Verification, lock_name: str) -> str:
    how = verification.artifact.recorded_how if verification.artifact else "unknown"
    external = len(verification.files) - 1
    files = "file" if external == 0 else f"file with {external} external data file{'s' if external > 1 else ''}"
    return f"{verification.name} is the {files} that {lock_name} lists (recorded as {how})."


def _evidence(
    lock: Path | None, states: tuple[FileState, ...], verification: Verification | None = None
) -> dict[str, Any]:
    evidence: dict[str, Any] = {
        "lock": lock.as_posix() if lock else None,
        "files": [state.to_json() for state in states],
    }
    if verification and verification.artifact:
        evidence["recorded"] = verification.artifact.recorded_how
        evidence["source"] = dict(verification.artifact.claims.get("source", {}))
    return evidence


def _refusal(subject: Subject, error: BackdoorScanError) -> dict[str, Any]:
    """Evidence where the files could not be compared."""
    return {"files": [{"path": subject.display, "status": "refused", "reason": str(error)}]}
