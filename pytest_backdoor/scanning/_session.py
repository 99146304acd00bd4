"""The scan of one model file in a process of its own, with limits on what it may use.

A model file is somebody else's input: parsing or running it may crash, hang or eat all memory. None of that may take
the test run with it, so everything that touches the file happens in the child.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from ..checks import load_check, planned_checks
from ..errors import SettingsError
from ..findings import Finding, ModelReport, Outcome
from ..models.hub import HubFile
from ..settings import ScanSettings
from ._limits import Limits, processor_seconds
from ._processes import ForkServer, ScanProcess, SpawnedProcess, can_fork, environment, imports_of

# What a child may send: its answers are read by the process that must survive it. Pictures of triggers take the most.
_LONGEST_ANSWER = 64 << 20
_MOST_UNREAD = 4
_SECONDS_BETWEEN_SIGNS = 1.0
OnWait = Callable[[str, float], None]
# Files that a scan left behind are removed; a process that ends writes its last within this time.
_SECONDS_TO_END = 5.0
_DESCRIBED = frozenset({"sha256", "size", "format", "task", "preprocessing"})
_KNOWN_SIGNALS = {
    "SIGKILL": "as the system does when its memory runs out",
    "SIGSEGV": "a crash of the library that runs it",
    "SIGBUS": "a crash of the library that runs it",
    "SIGABRT": "a crash of the library that runs it",
    "SIGILL": "a crash of the library that runs it",
    "SIGFPE": "a crash of the library that runs it",
    "SIGSYS": "for a system call that a scan may not make",
}


@dataclass(frozen=True)
class _Running:
    """A child with the lines that it has written; the empty text is the last one."""

    process: ScanProcess
    answers: queue.SimpleQueue[str]
    directory: str


class ScanSession:
    """A child process that scans one model file, check by check; use it as a context manager.

    ``path`` is the file, ``display`` its name in reports, ``root`` the folder that relative settings start from. With
    a ``server`` the child is forked from it where that is safe. A check that the child does not survive is an error,
    and the next one is asked in a new child with what is left of the time; when that is used up, all the rest are
    errors. ``hub``: what is known of a file that was fetched from the Hub.
    """

    def __init__(
        self,
        path: Path,
        display: str,
        settings: ScanSettings,
        root: Path,
        *,
        server: ForkServer | None = None,
        hub: HubFile | None = None,
    ) -> None:
        self.display = display
        self._path = path
        self._root = root
        self._settings = settings
        self._server = server if can_fork(settings) else None
        self._remaining = settings.timeout or None
        self._used_up: str | None = None
        self._died: str = ""
        self._description: dict[str, Any] = {}
        self._isolation: Mapping[str, Any] | None = None
        self._hub = hub
        self._child: _Running | None = None

    def run(self, check: str, on_wait: OnWait | None = None) -> Finding:
        """The finding of one planned check; never raises for what the model does.

        ``on_wait`` is told about every second which check is running, and for how many seconds.
        """
        started = time.perf_counter()
        told = None if on_wait is None else lambda: on_wait(check, time.perf_counter() - started)
        answer = self._ask({"check": check}, told)
        if answer is not None:
            try:
                finding = Finding.from_json(answer)
                json.dumps(finding.to_json(), allow_nan=False)  # that it can be reported
            except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
                self._garbled()
            else:
                if finding.check == check:
                    return finding
                self._garbled()
        return Finding(
            check=check,
            behavioural=_is_behavioural(check),
            outcome=Outcome.ERROR,
            summary=self._used_up or self._died,
            seconds=round(time.perf_counter() - started, 4),
        )

    def describe(self) -> dict[str, Any]:
        """See ``Subject.describe``, and ``isolation``; what is known by now."""
        # A new child knows less than the one before: it has not opened the model.
        found = self._ask({"describe": True}) or {}
        if found.keys() - _DESCRIBED:
            self._garbled()
            found = {}
        self._description.update({name: value for name, value in found.items() if value is not None})
        return {**found, **self._description, "isolation": self._isolation}

    def report(self, on_wait: OnWait | None = None) -> ModelReport:
        """The report of a whole scan; ``on_wait`` as for ``run``."""
        findings = tuple(self.run(name, on_wait) for name in planned_checks(self._settings))
        return ModelReport(path=self.display, findings=findings, **self.describe())

    def close(self) -> None:
        """End the child and remove its folder."""
        self._end(grace=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, request: Mapping[str, Any], on_wait: Callable[[], None] | None = None) -> Any:
        """The child's answer, None if it gave none."""
        if self._used_up:
            return None
        started = time.monotonic()
        if self._child is not None and _has_spoken(self._child):
            # Nobody asked, so it would be taken for the answer to another question.
            self._garbled()
            return None
        if self._child is None:
            self._child = self._start()
        self._send(self._child, request)
        answer = self._answer(self._child, on_wait)
        if answer is not None and "isolation" in answer:
            self._isolation = self._isolation or answer["isolation"]
            self._spend(time.monotonic() - started)
            started = time.monotonic()
            answer = self._answer(self._child, on_wait)
        self._spend(time.monotonic() - started)
        return answer

    def _answer(self, child: _Running, on_wait: Callable[[], None] | None) -> Any:
        try:
            line = _next_line(child, self._remaining, on_wait)
        except queue.Empty:
            self._used_up = (
                f"Scanning {self.display} took longer than {self._settings.timeout:g} s, so it was stopped; "
                "raise --backdoor-timeout if the model is large, else treat the file as hostile."
            )
            self.close()
            return None
        if not line:
            self._explain_death(self._end(grace=_SECONDS_TO_END))
            return None
        try:
            answer = json.loads(line)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            self._garbled()
            return None
        return answer

    def _garbled(self) -> None:
        self.close()
        self._died = f"The process that scanned {self.display} gave a garbled answer; treat the file as hostile."

    def _spend(self, seconds: float) -> None:
        if self._remaining is not None:
            self._remaining = max(0.01, self._remaining - seconds)

    def _start(self) -> _Running:
        directory = os.path.realpath(tempfile.mkdtemp(prefix="pytest-backdoor-"))
        process: ScanProcess
        if self._server is None:
            process = SpawnedProcess()
        else:
            modules = imports_of(planned_checks(self._settings), self._settings)
            process = self._server.start(modules, directory)
        answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=_read_lines, args=(process.answers, answers), daemon=True).start()
        child = _Running(process, answers, directory)
        limits = Limits(
            memory_mb=self._settings.memory,
            cpu_seconds=processor_seconds(self._remaining),
            directory=directory,
            device=self._settings.device,
        )
        opening: dict[str, Any] = {
            "path": str(self._path),
            "display": self.display,
            "root": str(self._root),
            "settings": self._settings.to_json(),
            "limits": asdict(limits),
            "environment": environment(),
            "hub": None if self._hub is None else self._hub.to_json(),
        }
        self._send(child, opening)
        return child

    def _send(self, child: _Running, request: Mapping[str, Any]) -> None:
        # A child that died is noticed when its answer does not come.
        with contextlib.suppress(OSError, ValueError):
            child.process.requests.write(json.dumps(request) + "\n")
            child.process.requests.flush()

    def _end(self, grace: float) -> int | None:
        """End the child; its exit status, None if it is not known or there is no child."""
        child, self._child = self._child, None
        if child is None:
            return None
        status = child.process.end(grace)
        with contextlib.suppress(OSError):
            child.process.requests.close()
        shutil.rmtree(child.directory, ignore_errors=True)
        return status

    def _explain_death(self, status: int | None) -> None:
        name = _signal_name(status)
        if name == "SIGXCPU":
            self._used_up = (
                f"Scanning {self.display} used up the processor time that --backdoor-timeout gives to all processors, "
                "so it was stopped; raise it if the model is large, else treat the file as hostile."
            )
            return
        if status is None:
            # Whatever ended the server, the next child needs none.
            self._server = None
            how = "is gone, with the one that had started it"
        elif status < 0:
            how = f"was killed by signal {-status} ({', '.join(filter(None, (name, _KNOWN_SIGNALS.get(name))))})"
        else:
            how = f"ended with status {status}"
        self._died = (
            f"The process that scanned {self.display} {how}: the file makes the model library crash or needs more than "
            f"the {self._settings.memory} MB of --backdoor-memory. Treat the file as hostile until that is explained."
        )


def _signal_name(status: int | None) -> str:
    if status is None or status >= 0:
        return ""
    try:
        return signal.Signals(-status).name
    except ValueError:
        return ""


def _is_behavioural(check: str) -> bool:
    try:
        return load_check(check).behavioural
    except SettingsError:
        return True


def _has_spoken(child: _Running) -> bool:
    """Whether a child that was asked nothing has written a line; its end is no line."""
    if child.answers.empty():
        return False
    line = child.answers.get()
    child.answers.put(line)
    return bool(line)


def _next_line(child: _Running, seconds: float | None, on_wait: Callable[[], None] | None) -> str:
    """The next line within ``seconds``, None for no limit. Raises queue.Empty if there was none."""
    if on_wait is None:
        return child.answers.get(timeout=seconds)
    until = None if seconds is None else time.monotonic() + seconds
    while True:
        left = _SECONDS_BETWEEN_SIGNS if until is None else until - time.monotonic()
        try:
            return child.answers.get(timeout=max(0.0, min(left, _SECONDS_BETWEEN_SIGNS)))
        except queue.Empty:
            if left <= _SECONDS_BETWEEN_SIGNS and until is not None:
                raise
            on_wait()


def _read_lines(stream: IO[str], answers: queue.SimpleQueue[str]) -> None:
    # The reader closes the pipe: a process that a check has left behind may hold it open after the child's end, and
    # whoever closes it then waits. It reads no further where a child writes what no answer is.
    with contextlib.suppress(OSError, ValueError), stream:
        while line := stream.readline(_LONGEST_ANSWER):
            answers.put(line if line.endswith("\n") else "cut short")
            if len(line) == _LONGEST_ANSWER or answers.qsize() > _MOST_UNREAD:
                break
    answers.put("")
