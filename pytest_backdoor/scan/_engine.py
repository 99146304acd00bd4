"""Running checks on one subject in this process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..checks import check_names, load_check
from ..checks._base import Check, Context
from ..errors import BackdoorScanError, NotAssessableError
from ..findings import Finding, ModelReport, Outcome
from ..models import Subject
from ..settings import ScanSettings


class Engine:
    """Runs the planned checks on one subject and turns every error into a finding."""

    def __init__(self, subject: Subject, settings: ScanSettings, root: Path) -> None:
        self._subject = subject
        self._checks: dict[str, Check] = {name: load_check(name) for name in check_names(settings.checks)}
        behavioural = sum(check.behavioural for check in self._checks.values())
        self._context = Context(settings=settings, root=root, behavioural_checks=behavioural)

    def run(self, name: str) -> Finding:
        """The finding of one planned check."""
        check = self._checks[name]
        started = time.perf_counter()
        try:
            finding = check.run(self._subject, self._context)
        except NotAssessableError as error:
            finding = _unfinished(check, Outcome.NOT_ASSESSED, str(error))
        except BackdoorScanError as error:
            finding = _unfinished(check, Outcome.ERROR, str(error))
        except MemoryError:
            finding = _unfinished(check, Outcome.ERROR, out_of_memory(self._subject.display, self._context.settings))
        except Exception as error:  # a gate reports what it did not foresee instead of stopping
            text = f"The check {name} failed on {self._subject.display}: {type(error).__name__}: {error}"
            finding = _unfinished(check, Outcome.ERROR, text)
        return replace(finding, seconds=round(time.perf_counter() - started, 4))

    def run_all(self) -> Iterator[Finding]:
        """The findings of all planned checks, the cheapest first."""
        return (self.run(name) for name in self._checks)

    def describe(self) -> dict[str, Any]:
        """See ``Subject.describe``."""
        return self._subject.describe()

    def report(self) -> ModelReport:
        """The report of a whole scan."""
        findings = tuple(self.run_all())
        return ModelReport(path=self._subject.display, findings=findings, **self.describe())


def out_of_memory(display: str, settings: ScanSettings) -> str:
    """The error text for a scan that needed more than the ``memory`` setting."""
    return (
        f"{display} needs more than {settings.memory} MB to scan, so it was stopped; "
        "if the model is that large, raise --backdoor-memory."
    )


def _unfinished(check: Check, outcome: Outcome, summary: str) -> Finding:
    return Finding(check=check.name, behavioural=check.behavioural, outcome=outcome, summary=summary)
