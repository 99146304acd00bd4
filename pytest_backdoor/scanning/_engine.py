"""Running checks on one subject in this process."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from ..acceptance import judged
from ..checks import TRAINING_DATA, load_check, planned_checks
from ..checks._base import Check, Context
from ..errors import BackdoorScanError, NotAssessableError, SettingsError
from ..findings import Finding, ModelReport, Outcome
from ..models import Subject
from ..settings import ScanSettings


class Engine:
    """Runs the planned checks on one subject and turns every error into a finding.

    ``today``: the day on which what the settings accept must not have ended.
    """

    def __init__(
        self, subject: Subject, settings: ScanSettings, root: Path, *, today: Callable[[], date] = date.today
    ) -> None:
        self._subject = subject
        self._today = today
        self._checks = {name: _load(name) for name in planned_checks(settings)}
        behavioural = tuple(name for name, check in self._checks.items() if _is_behavioural(check))
        self._context = Context(
            settings=settings,
            root=root,
            behavioural_checks=behavioural,
            # Without clean samples it can judge nothing, and the others keep the whole rate.
            judges_data=TRAINING_DATA in self._checks and None not in (settings.train_data, settings.data),
        )

    def run(self, name: str) -> Finding:
        """The finding of one planned check."""
        check = self._checks.get(name) or _load(name)
        started = time.perf_counter()
        try:
            finding = self._ask(name, check)
        except NotAssessableError as error:
            finding = _unfinished(name, check, Outcome.NOT_ASSESSED, str(error), error.remedy)
        except BackdoorScanError as error:
            finding = _unfinished(name, check, Outcome.ERROR, str(error))
        except MemoryError:
            text = out_of_memory(self._subject.display, self._context.settings)
            finding = _unfinished(name, check, Outcome.ERROR, text)
        except Exception as error:  # a gate reports what it did not foresee instead of stopping
            text = f"The check {name} failed on {self._subject.display}: {type(error).__name__}: {error}"
            finding = _unfinished(name, check, Outcome.ERROR, text)
        return replace(finding, check=name, seconds=round(time.perf_counter() - started, 4))

    def _ask(self, name: str, check: Check | SettingsError) -> Finding:
        if isinstance(check, SettingsError):
            raise check
        finding = check.run(self._subject, self._context)
        # A finding that no report can hold is the check's error, not the report's.
        json.dumps(finding.to_json(), allow_nan=False)
        acceptances = self._context.settings.accept or ()
        if finding.outcome is not Outcome.FAILED or not acceptances:
            return finding
        digests = [file.sha256 for file in self._subject.files]
        return judged(replace(finding, check=name), acceptances, digests, self._today())

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


def _load(name: str) -> Check | SettingsError:
    # A third party's check that cannot be loaded is an error of that check alone.
    try:
        return load_check(name)
    except SettingsError as error:
        return error


def _is_behavioural(check: Check | SettingsError) -> bool:
    return isinstance(check, SettingsError) or check.behavioural


def _unfinished(name: str, check: Check | SettingsError, outcome: Outcome, summary: str, remedy: str = "") -> Finding:
    return Finding(check=name, behavioural=_is_behavioural(check), outcome=outcome, summary=summary, remedy=remedy)
