"""What a run that scans does: collect models, gather findings, write reports, decide the exit status."""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ..checks import check_names, planned_checks
from ..errors import SettingsError
from ..findings import Finding, ModelReport, Outcome, ScanReport, Verdict
from ..models import MODEL_SUFFIXES
from ..report import missing_limits, summary_table, unneeded_acceptances, write_report
from ._arguments import ScanTargets, find_targets
from ._collect import FINDING_KEY, ModelFile
from ._marker import REPORTS_KEY
from ._pytest_html import add_pictures
from ._settings import RunSettings, read_settings
from ._sweep import UNLISTED_KEY, FolderSweep

SECONDS_BETWEEN_WRITES = 1.0
LEAST_SHARE_OF_OTHER_WORK = 20

# pytest-xdist sends every attribute of a report that is made of JSON values.
FINDING_ATTRIBUTE = "backdoor_finding"
MODELS_ATTRIBUTE = "backdoor_models"


def activate(config: pytest.Config) -> None:
    """Register what this run needs. Raises pytest.UsageError for wrong settings or arguments."""
    try:
        settings = read_settings(config)
        if config.option.backdoor_scan:
            config.pluginmanager.register(
                ModelCollector(settings, find_targets(config, settings)), "backdoor-collector"
            )
    except SettingsError as error:
        raise pytest.UsageError(str(error)) from None
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Recorder(config, settings), "backdoor-recorder")
    config.pluginmanager.register(FindingSender(), "backdoor-sender")


class ModelCollector:
    """Turns the model files that were asked for into collectors."""

    def __init__(self, settings: RunSettings, targets: ScanTargets) -> None:
        self._settings = settings
        self._targets = targets

    def pytest_collect_file(self, file_path: Path, parent: pytest.Collector) -> ModelFile | None:
        """Collect a model without opening it."""
        if not self._targets.include(file_path):
            return None
        display = self._targets.display(file_path, self._settings.root)
        return ModelFile.make(parent, file_path, display, self._settings, hub=self._targets.hub(file_path))

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, session: pytest.Session, items: list[pytest.Item]) -> None:
        """Keep the checks of one model together, whatever order other plugins chose: each model is opened once.

        Then add a look through each scanned folder for models that nobody listed.
        """
        first: dict[str, int] = {}
        for number, item in enumerate(items):
            if isinstance(item.parent, ModelFile):
                first.setdefault(item.parent.nodeid, number)
        numbers = {id(item): number for number, item in enumerate(items)}
        items.sort(
            key=lambda item: first[item.parent.nodeid] if isinstance(item.parent, ModelFile) else numbers[id(item)]
        )
        items += self._sweeps(session, {item.path for item in items if _tells_provenance(item)})

    def _sweeps(self, session: pytest.Session, scanned: set[Path]) -> list[FolderSweep]:
        lock = self._settings.lock_to_enforce()
        if lock is None:
            return []
        folders = dict.fromkeys(root for root in self._targets.roots if root.is_dir())
        return [FolderSweep.make(session, folder, lock, self._settings, scanned) for folder in folders]


def _tells_provenance(item: pytest.Item) -> bool:
    """Whether it compares its model with the lock file, or is of a model for which nobody wants that."""
    model = item.parent
    if not isinstance(model, ModelFile):
        return False
    return item.name == "provenance" or "provenance" not in planned_checks(model.settings)


class FindingSender:
    """Attaches findings to test reports, which is how they reach the controller of a distributed run."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Add JSON values to the report."""
        report = yield
        if call.when == "call" and FINDING_KEY in item.stash:
            setattr(report, FINDING_ATTRIBUTE, item.stash[FINDING_KEY])
            add_pictures(item, report, Finding.from_json(item.stash[FINDING_KEY]["finding"]))
            if isinstance(report.longrepr, tuple):
                # A skip is listed under the model, not under the line of this plugin that raised it.
                report.longrepr = (str(item.path), 1, report.longrepr[2])
        models = [model for key in (REPORTS_KEY, UNLISTED_KEY) for model in item.stash.get(key, ())]
        if call.when == "teardown" and models:
            setattr(report, MODELS_ATTRIBUTE, [model.to_json() for model in models])
        return report


class Recorder:
    """Gathers findings in the process that reports, writes the report files and decides the exit status."""

    def __init__(self, config: pytest.Config, settings: RunSettings) -> None:
        self._config = config
        self._settings = settings
        self._scanned: dict[str, dict[str, Any]] = {}
        self._from_tests: dict[str, ModelReport] = {}
        self._next_write = 0.0

    def pytest_sessionstart(self) -> None:
        """Write the report files at once, so that they exist whatever happens."""
        if self._config.option.collectonly:
            return
        try:
            self._write()
        except OSError as error:
            raise pytest.UsageError(f"The report cannot be written: {error}") from None

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """List every model that is to be scanned, so that an interrupted run shows what it did not reach."""
        self._expect(item.parent.display for item in session.items if isinstance(item.parent, ModelFile))

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """The same where pytest-xdist's workers collect."""
        self._expect(model for model, check in map(_split_node_id, ids) if check)

    def _expect(self, models: Iterable[str]) -> None:
        for model in models:
            self._of(model)
        if not self._config.option.collectonly:
            self._write()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take in the findings of one test report."""
        sent = getattr(report, FINDING_ATTRIBUTE, None)
        if sent is not None:
            self._add(sent["model"], Finding.from_json(sent["finding"]))
        elif report.failed and report.when != "teardown":
            self._add_crash(report)
        for values in getattr(report, MODELS_ATTRIBUTE, ()):
            model = _model_report(values)
            self._from_tests.setdefault(_without_seconds(model), model)
        if time.monotonic() > self._next_write:
            self._write()

    def _of(self, display: str) -> dict[str, Any]:
        """What is known of one model by now."""
        if display not in self._scanned:
            self._scanned[display] = {
                "path": display,
                "findings": [],
                "settings": self._settings.for_model(display).to_json(),
                "command": self._settings.scan_command(display),
            }
        return self._scanned[display]

    def _add(self, model: dict[str, Any], finding: Finding) -> None:
        known = self._of(model["path"])
        known.update({name: value for name, value in model.items() if value is not None})
        known["findings"].append(finding)

    def _add_crash(self, report: pytest.TestReport) -> None:
        """A test process that died leaves a report without a finding."""
        model, check = _split_node_id(report.nodeid)
        if check:
            summary = f"The check {check} of {model} did not finish: {report.longreprtext.strip()[:500]}"
            finding = Finding(check=check, behavioural=True, outcome=Outcome.ERROR, summary=summary)
            self._add({"path": model}, finding)

    @property
    def _models(self) -> list[ModelReport]:
        order = {name: number for number, name in enumerate(check_names())}
        return [
            ModelReport(
                **{**values, "findings": tuple(sorted(values["findings"], key=lambda f: order.get(f.check, 99)))}
            )
            for values in self._scanned.values()
        ]

    def _write(self) -> None:
        started = time.monotonic()
        models = (*self._models, *self._from_tests.values())
        report = ScanReport(models=models, settings=self._settings.for_report())
        for path in self._settings.reports:
            write_report(report, path, root=self._settings.root, listings=self._settings.listings())
        # What takes long, as of many models, is done less often.
        now = time.monotonic()
        self._next_write = now + max(SECONDS_BETWEEN_WRITES, LEAST_SHARE_OF_OTHER_WORK * (now - started))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the final reports; fail a run whose gate must stay closed."""
        if self._config.option.collectonly:
            return
        self._write()
        if not self._config.option.backdoor_scan or session.exitstatus not in (
            pytest.ExitCode.OK,
            pytest.ExitCode.NO_TESTS_COLLECTED,
        ):
            return
        session.exitstatus = self._exit_status()

    def _exit_status(self) -> pytest.ExitCode:
        models = self._models
        assessed = {Outcome.PASSED, Outcome.FAILED}
        if any(model.findings for model in models) and not all(model.accepted for model in models):
            return pytest.ExitCode.TESTS_FAILED
        if not any(finding.outcome in assessed for model in models for finding in model.findings):
            return pytest.ExitCode.NO_TESTS_COLLECTED
        return pytest.ExitCode.OK

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """One line for each model, the worst first."""
        if self._config.option.collectonly or not (self._config.option.backdoor_scan or self._from_tests):
            return
        models = [*self._models, *self._from_tests.values()]
        terminalreporter.ensure_newline()
        terminalreporter.section("backdoor scan")
        if not any(model.findings for model in models):
            terminalreporter.write_line("No model was scanned: no check ran.")
        for line in (*summary_table(models), *unneeded_acceptances(models), *missing_limits(models)):
            terminalreporter.write_line(line)
        refused = [model.path for model in self._models if model.verdict is Verdict.UNVERIFIED and not model.accepted]
        if refused:
            terminalreporter.write_line(
                "The gate fails for unverified models: nothing that looks at their behaviour could be assessed. Accept "
                "them with --backdoor-allow-unverified."
            )
        for path in self._settings.reports:
            terminalreporter.write_line(f"report: {path}")


def _split_node_id(node_id: str) -> tuple[str, str]:
    """The model and the check of a check's node id; two empty texts for any other."""
    model, _, check = node_id.rpartition("::")
    return (model, check) if Path(model).suffix.lower() in MODEL_SUFFIXES and check in check_names() else ("", "")


def _without_seconds(model: ModelReport) -> str:
    findings = tuple(replace(finding, seconds=0.0) for finding in model.findings)
    return json.dumps(replace(model, findings=findings, command=None).to_json(), sort_keys=True)


def _model_report(values: dict[str, Any]) -> ModelReport:
    kept = {name: value for name, value in values.items() if name not in ("verdict", "seconds", "findings")}
    return ModelReport(**kept, findings=tuple(Finding.from_json(finding) for finding in values["findings"]))
