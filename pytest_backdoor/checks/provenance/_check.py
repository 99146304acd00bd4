"""The check that asks: is this the file that was listed, and all of it?"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_backdoor.checks._base import Cost
from pytest_backdoor.errors import LockError, ModelError
from pytest_backdoor.findings import Finding, Outcome
from pytest_backdoor.models._files import ExternalDataError
from pytest_backdoor.models.hub import HUB_PREFIX

from ._hub import file_content, hub_digests, hub_problems
from ._lockfile import read_lock
from ._names import file_name
from ._verify import FileState, Verification, file_states, verify

if TYPE_CHECKING:
    from pytest_backdoor.checks._base import Context
    from pytest_backdoor.models import Subject
    from pytest_backdoor.models.hub import HubFile


class ProvenanceCheck:
    """Compares the model file and its external data with the lock file; never opens the model itself.

    Passes only if all files are listed and equal. Without a lock file nothing can be said (``not_assessed``); a lock
    file or a model that cannot be read is an ``error``; everything else fails.
    """

    name = "provenance"
    behavioural = False
    cost = Cost.FILE

    def run(self, subject: Subject, context: Context) -> Finding:
        """The finding on one model; raises nothing on account of a bad model or lock file."""
        finding = self._compare(subject, context)
        return finding if subject.hub is None else _with_hub(finding, subject, subject.hub)

    def _compare(self, subject: Subject, context: Context) -> Finding:
        if subject.path is None:
            return self._finding(
                Outcome.NOT_ASSESSED,
                f"{subject.display} is a live model and has no file whose origin could be verified.",
                remedy="Scan the file that the model was loaded from.",
            )
        try:
            if context.settings.lock is None:
                return self._without_lock(subject, subject.path)
            return self._with_lock(subject, subject.path, context.root / context.settings.lock)
        except ExternalDataError as error:
            return self._finding(
                Outcome.FAILED, str(error), remedy=_get_again(subject.display), evidence=_refusal(subject, error)
            )
        except (LockError, ModelError) as error:
            return self._finding(Outcome.ERROR, str(error), evidence=_refusal(subject, error))

    def _without_lock(self, subject: Subject, path: Path) -> Finding:
        display = subject.display
        states = file_states(display, path, subject.content)
        others = f" (and {len(states) - 1} external data files)" if len(states) > 1 else ""
        return self._finding(
            Outcome.NOT_ASSESSED,
            f"There is no lock file to compare {display} with; its SHA-256 is {states[0].sha256}{others}.",
            remedy="Compare that with what the publisher states, then list the model with: " + _add_command(display),
            evidence=_evidence(None, states),
        )

    def _with_lock(self, subject: Subject, path: Path, lock_path: Path) -> Finding:
        lock = read_lock(lock_path)
        try:
            name = subject.display if subject.display.startswith(HUB_PREFIX) else file_name(path, lock.folder)
        except LockError as error:  # no entry could ever name this file
            return self._finding(
                Outcome.FAILED,
                f"{subject.display} is not listed in {lock_path.name}: {error}",
                evidence=_evidence(lock_path, file_states(subject.display, path, subject.content)),
            )
        verification = verify(name, path, lock, subject.content)
        evidence = _evidence(lock_path, verification.files, verification)
        if verification.problems:
            return self._finding(
                Outcome.FAILED,
                " ".join(verification.problems),
                remedy=_remedy(verification, subject.display),
                evidence=evidence,
            )
        if verification.undecided:
            return self._finding(
                Outcome.ERROR,
                " ".join(verification.undecided),
                remedy=f"Review the entry of {name} in {lock_path.name}, or get the published file again.",
                evidence=evidence,
            )
        return self._finding(Outcome.PASSED, _agreement(verification, lock_path.name), evidence=evidence)

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


def _with_hub(finding: Finding, subject: Subject, hub: HubFile) -> Finding:
    """The finding with what is wrong with the model as a file of the Hub, which fails it whatever else was found."""
    try:
        problems = hub_problems(hub, hub_digests(hub, partial(_read, subject)), display=subject.display)
    except ModelError:  # a file that cannot be read is the finding already
        return finding
    finding = replace(finding, problems=(*finding.problems, *problems))
    blocking = [problem for problem in problems if problem.blocks]
    if not blocking:
        return finding
    summary = [*(problem.message for problem in blocking), finding.summary]
    remedy = [*(problem.remedy for problem in blocking), finding.remedy]
    return replace(finding, outcome=Outcome.FAILED, summary=" ".join(summary), remedy=" ".join(filter(None, remedy)))


def _read(subject: Subject, file: HubFile) -> tuple[int, Iterable[bytes]]:
    if file is subject.hub:
        return len(subject.content), [subject.content]
    return file_content(file.path)


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
    return evidence


def _refusal(subject: Subject, error: Exception) -> dict[str, Any]:
    """Evidence where the files could not be compared."""
    return {"files": [{"path": subject.display, "status": "refused", "reason": str(error)}]}


def _remedy(verification: Verification, display: str) -> str:
    if verification.artifact is None:
        return f"If you trust this file, review it and run: {_add_command(display)}; else get the published file."
    command = _add_command(display, update=True)
    return f"If the change is intended, review it and run: {command}; else get the published file again."


def _add_command(display: str, *, update: bool = False) -> str:
    return f"pytest-backdoor lock {'update' if update else 'add'} {shlex.quote(display)}"


def _get_again(display: str) -> str:
    return f"Get the published file of {display} again, or one whose data lie beside it."
