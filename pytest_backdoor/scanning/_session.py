"""The scan of one model file in a process of its own, with limits on time and memory.

A model file is somebody else's input: parsing or running it may crash, hang or eat all memory. None of that may take
the test run with it, so everything that touches the file happens in the child.
"""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from ..checks import check_names, load_check
from ..errors import SettingsError
from ..findings import Finding, ModelReport, Outcome
from ..models.hub import HubFile
from ..settings import ScanSettings


class ScanSession:
    """A child process that scans one model file, check by check; use it as a context manager.

    ``path`` is the file, ``display`` its name in reports, ``root`` the folder that relative settings start from,
    ``hub`` what is known of a file that was fetched from the Hub.
    """

    def __init__(
        self, path: Path, display: str, settings: ScanSettings, root: Path, *, hub: HubFile | None = None
    ) -> None:
        self.display = display
        self._settings = settings
        self._remaining = settings.timeout or None
        self._given_up: str | None = None
        self._description: dict[str, Any] = {}
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        request = {"path": str(path), "display": display, "root": str(root), "settings": settings.to_json()}
        if hub is not None:
            request["hub"] = hub.to_json()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "pytest_backdoor.scanning._worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
        )
        threading.Thread(target=_read_lines, args=(self._process.stdout, self._answers), daemon=True).start()
        self._send(request)

    def run(self, check: str) -> Finding:
        """The finding of one planned check; never raises for what the model does."""
        started = time.perf_counter()
        answer = self._ask({"check": check})
        if answer is not None:
            return Finding.from_json(answer)
        return Finding(
            check=check,
            behavioural=_is_behavioural(check),
            outcome=Outcome.ERROR,
            summary=self._given_up or "",
            seconds=round(time.perf_counter() - started, 4),
        )

    def describe(self) -> dict[str, Any]:
        """See ``Subject.describe``; what is known by now."""
        self._description = self._ask({"describe": True}) or self._description
        return self._description

    def report(self) -> ModelReport:
        """The report of a whole scan."""
        findings = tuple(self.run(name) for name in check_names(self._settings.checks))
        return ModelReport(path=self.display, findings=findings, **self.describe())

    def close(self) -> None:
        """End the child."""
        if self._process.poll() is None:
            self._process.kill()
        if self._process.stdin:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, request: Mapping[str, Any]) -> Any:
        """The child's answer, None once it has been given up on."""
        if self._given_up:
            return None
        started = time.monotonic()
        self._send(request)
        try:
            line = self._answers.get(timeout=self._remaining)
        except queue.Empty:
            self._give_up(
                f"Scanning {self.display} took longer than {self._settings.timeout:g} s, so it was stopped; "
                "raise --backdoor-timeout if the model is large, else treat the file as hostile."
            )
            return None
        if self._remaining is not None:
            self._remaining = max(0.01, self._remaining - (time.monotonic() - started))
        if not line:
            self._give_up(self._how_it_died())
            return None
        return json.loads(line)

    def _send(self, request: Mapping[str, Any]) -> None:
        # A child that died is noticed when its answer does not come.
        with contextlib.suppress(OSError, ValueError):
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()

    def _give_up(self, reason: str) -> None:
        self._given_up = reason
        self.close()

    def _how_it_died(self) -> str:
        try:
            code = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            code = 0
        how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
        return (
            f"The process that scanned {self.display} {how}: the file makes the model library crash or needs more than "
            f"the {self._settings.memory} MB of --backdoor-memory. Treat the file as hostile until that is explained."
        )


def _is_behavioural(check: str) -> bool:
    try:
        return load_check(check).behavioural
    except SettingsError:
        return True


def _read_lines(stream: IO[str] | None, answers: queue.SimpleQueue[str]) -> None:
    # The reader closes the pipe: a process that a check has left behind may hold it open after the child's end, and
    # whoever closes it then waits.
    if stream is not None:
        with contextlib.suppress(OSError, ValueError), stream:
            for line in stream:
                answers.put(line)
    answers.put("")
