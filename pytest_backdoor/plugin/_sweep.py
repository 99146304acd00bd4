"""One item for each scanned folder: is everything in it listed that is a model, and as it is listed?"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import pytest

from ..errors import LockError
from ..findings import Finding, ModelReport, Outcome, Problem
from ..report import explain
from ..scanning import display_name
from ._settings import RunSettings

NAME = "unlisted-models"
STATUSES = {"hash-mismatch": "changed", "missing-file": "missing", "unsafe-path": "refused"}
UNLISTED_KEY = pytest.StashKey[list[ModelReport]]()


class UnlistedModelsError(Exception):
    """A folder holds models that the lock file does not list; carries the reports on them."""

    def __init__(self, models: list[ModelReport]) -> None:
        super().__init__(f"{len(models)} files are not as the lock file lists them, or not listed.")
        self.models = models


class FolderSweep(pytest.Item):
    """Looks through a scanned folder for files that hold a model by their content, whatever they are called.

    Listed files that are not scanned are compared: those that are called unlike a model, or lie where pytest does not
    look. It is added after tests were selected, so that no ``-k`` or ``-m`` leaves it out by accident.
    """

    folder: Path
    lock: Path
    run: RunSettings
    leave_out: Collection[Path]

    @classmethod
    def make(
        cls, session: pytest.Session, folder: Path, lock: Path, run: RunSettings, leave_out: Collection[Path]
    ) -> FolderSweep:
        """The item of ``folder``; models in ``leave_out`` are scanned, and so reported, by themselves."""
        display = display_name(str(folder), folder, run.root)
        item: FolderSweep = cls.from_parent(session, name=NAME, nodeid=f"{display}::{NAME}")
        item.folder, item.lock, item.run, item.leave_out = folder, lock, run, leave_out
        return item

    def runtest(self) -> None:
        """Fail if a model is not listed."""
        from ..checks.provenance import unlisted_in_folder

        found = unlisted_in_folder(self.folder, self.lock, leave_out=self.leave_out)
        if found:
            models = [_report(path, problems) for path, problems in _by_path(found).items()]
            self.stash[UNLISTED_KEY] = models
            raise UnlistedModelsError(models)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> str | Any:
        """Which files, and what to do about each."""
        if isinstance(excinfo.value, UnlistedModelsError):
            command = self.run.command(display_name(str(self.folder), self.folder, self.run.typed), "--backdoor-scan")
            return "\n\n".join(explain(model.path, model.findings[0], command) for model in excinfo.value.models)
        if isinstance(excinfo.value, LockError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """The folder and the headline of this item's failure."""
        return self.folder, None, f"{NAME} in {self.nodeid.rpartition('::')[0]}"


def _by_path(problems: Iterable[Problem]) -> dict[str, list[Problem]]:
    grouped: dict[str, list[Problem]] = {}
    for problem in problems:
        grouped.setdefault(problem.path, []).append(problem)
    return grouped


def _report(path: str, problems: list[Problem]) -> ModelReport:
    finding = Finding(
        check="provenance",
        outcome=Outcome.FAILED,
        summary=" ".join(problem.message for problem in problems),
        behavioural=False,
        remedy=" ".join(problem.remedy for problem in problems),
        problems=tuple(problems),
        evidence={"files": [{"path": path, "status": STATUSES.get(problems[0].rule, "not-listed")}]},
    )
    return ModelReport(path=path, findings=(finding,))
