"""Model files as collectors and checks as items: ``model.onnx::litmus``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ..checks import planned_checks
from ..findings import Finding, Outcome
from ..models.hub import HubFile
from ..report import accepted_reason, explain, junit_properties, short_reason
from ..settings import ScanSettings
from ._processes import fork_server_of
from ._settings import RunSettings
from ._waiting import shown_on_terminal

if TYPE_CHECKING:
    from ..scanning._session import ScanSession

FINDING_KEY = pytest.StashKey[dict[str, Any]]()


class CheckFailedError(Exception):
    """A check failed or could not be made; carries the finding to the report."""

    def __init__(self, finding: Finding) -> None:
        super().__init__(finding.summary)
        self.finding = finding


class ModelFile(pytest.File):
    """A model file; its checks share one process, which starts with the first of them."""

    display: str
    run: RunSettings
    settings: ScanSettings
    hub: HubFile | None
    _session: ScanSession | None = None

    @classmethod
    def make(
        cls, parent: pytest.Collector, path: Path, display: str, run: RunSettings, *, hub: HubFile | None = None
    ) -> ModelFile:
        """The collector of one model. Its node id is ``display`` also outside of pytest's root folder."""
        node: ModelFile = cls.from_parent(parent, path=path, nodeid=display)
        node.display, node.run, node.settings, node.hub = display, run, run.for_model(display), hub
        return node

    def collect(self) -> Iterator[CheckItem]:
        """One item for each check; the file is not opened."""
        for check in planned_checks(self.settings):
            yield CheckItem.from_parent(self, name=check)

    def scan_session(self) -> ScanSession:
        """The running scan of this model."""
        from ..scanning._session import ScanSession

        if self._session is None:
            server = fork_server_of(self.config)
            self._session = ScanSession(
                self.path, self.display, self.settings, self.config.rootpath, server=server, hub=self.hub
            )
        return self._session

    def command(self, check: str) -> str:
        """The command that repeats one check."""
        return self.run.scan_command(self.display, check)

    def teardown(self) -> None:
        """End the scan's process."""
        if self._session is not None:
            self._session.close()
            self._session = None


class CheckItem(pytest.Item):
    """One check of one model."""

    def runtest(self) -> None:
        """Run the check; one that was not assessed is skipped, one whose failure is accepted is expected to fail."""
        model = self.parent
        assert isinstance(model, ModelFile)
        session = model.scan_session()
        with shown_on_terminal(self.config) as on_wait:
            finding = session.run(self.name, on_wait)
        description = session.describe()
        self.stash[FINDING_KEY] = {
            "model": {"path": model.display, **description},
            "finding": finding.to_json(),
        }
        self.user_properties += junit_properties(finding, sha256=description.get("sha256"))
        if finding.outcome is Outcome.NOT_ASSESSED:
            pytest.skip(short_reason(finding))
        if finding.accepted is not None and not self.config.option.runxfail:
            pytest.xfail(accepted_reason(finding))
        if finding.outcome is not Outcome.PASSED:
            raise CheckFailedError(finding)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> str | Any:
        """What was found, how sure that is and what to do; no traceback of the plugin."""
        if isinstance(excinfo.value, CheckFailedError):
            model = self.parent
            assert isinstance(model, ModelFile)
            return explain(model.display, excinfo.value.finding, model.command(self.name))
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """The file and the headline of this item's failure."""
        # pytest would take a headline that is the node id for the name of a function and replace its dots.
        assert isinstance(self.parent, ModelFile)
        return self.path, None, f"{self.name} of {self.parent.display}"
