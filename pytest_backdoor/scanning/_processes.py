"""Starting the processes that scan: forked from a warm parent where that is safe, else spawned one by one."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import IO, Protocol, Self, cast

from ..settings import ScanSettings
from ._fork_server import MOST_BYTES, WORKER

_SECONDS_TO_ANSWER = 10.0
# What each check imports; what is not listed here, a third party's check for one, the child imports itself.
_FOR_MODELS = ("numpy", "onnx", "pytest_backdoor.calibration")
IMPORTS: Mapping[str, tuple[str, ...]] = {
    "provenance": ("onnx", "pytest_backdoor.checks.provenance"),
    "litmus": (*_FOR_MODELS, "pytest_backdoor.checks.litmus"),
    "margin": (*_FOR_MODELS, "torch", "pytest_backdoor.models.graph", "pytest_backdoor.checks.margin._check"),
    "reversal": (*_FOR_MODELS, "torch", "pytest_backdoor.models.graph", "pytest_backdoor.checks.reversal._check"),
    "training-data": ("numpy", "onnx", "pytest_backdoor.checks.training_data._check"),
}


def environment() -> dict[str, str]:
    """The environment of what scans: NumPy's matrix library starts no threads, and so rounds the same everywhere."""
    return {**os.environ, "OPENBLAS_NUM_THREADS": "1"}


class ScanProcess(Protocol):
    """A running child. It reads ``requests`` and writes ``answers``, both in UTF-8."""

    requests: IO[str]
    answers: IO[str]

    def end(self, grace: float) -> int | None:
        """Wait up to ``grace`` seconds for its own end, else kill it with what it started.

        Its exit status, negative for a signal; None where that is not known. The pipes stay open.
        """
        ...


class SpawnedProcess:
    """A child with an interpreter of its own."""

    def __init__(self) -> None:
        # A group of its own: Ctrl-C is for the parent, which then ends the child and all that it started.
        self._process = subprocess.Popen(
            WORKER,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            env=environment(),
            start_new_session=True,
        )
        self.requests = cast(IO[str], self._process.stdin)
        self.answers = cast(IO[str], self._process.stdout)

    def end(self, grace: float) -> int | None:
        """See ``ScanProcess.end``."""
        if self._process.returncode is None:
            self._wait_for_its_end(grace)
            if sys.platform != "win32":
                with contextlib.suppress(OSError):
                    os.killpg(self._process.pid, signal.SIGKILL)
            self._process.kill()
        return self._process.wait()

    def _wait_for_its_end(self, grace: float) -> None:
        # Ended but not waited for, so that its number and its group's still belong to it.
        if grace and hasattr(os, "waitid"):
            timer = threading.Timer(grace, self._process.kill)
            timer.start()
            with contextlib.suppress(OSError):
                os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
            timer.cancel()
        elif grace:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=grace)


class ForkedProcess:
    """A child of a ``ForkServer``."""

    def __init__(self, server: ForkServer, number: int, requests: IO[str], answers: IO[str]) -> None:
        self.requests = requests
        self.answers = answers
        self._server = server
        self._number = number
        self._ended: int | None = None
        self._is_ended = False

    def end(self, grace: float) -> int | None:
        """See ``ScanProcess.end``."""
        if not self._is_ended:
            self._ended = self._server.end(self._number, grace)
            self._is_ended = True
        return self._ended


class ForkServer:
    """A warm parent of scanning processes; see ``_fork_server``. Close it at the end, or use it as a context manager.

    Its own process starts with the first child, so that making one costs nothing. Children that are still there when it
    is closed are killed.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._count = 0
        # The numbers of the first child of the running process; those of one that died are lost.
        self._first = 1

    def start(self, modules: Iterable[str], directory: str) -> ForkedProcess:
        """A new child; ``modules`` are imported before it is forked, ``directory`` is removed if nobody else can.

        Nothing is waited for. Raises OSError if no process can be started.
        """
        with self._lock:
            self._require_process()
            self._count += 1
            theirs_in, ours_out = os.pipe()
            ours_in, theirs_out = os.pipe()
            message = json.dumps({"start": self._count, "modules": list(modules), "directory": directory})
            try:
                assert self._control is not None
                socket.send_fds(self._control, [message.encode()], [theirs_in, theirs_out])
            except OSError:  # it died a moment ago: the child's end of the pipes is closed, which is noticed
                pass
            finally:
                os.close(theirs_in)
                os.close(theirs_out)
            return ForkedProcess(
                self, self._count, os.fdopen(ours_out, "w", encoding="utf-8"), os.fdopen(ours_in, encoding="utf-8")
            )

    def end(self, number: int, grace: float) -> int | None:
        """See ``ScanProcess.end``, of the child ``number``."""
        with self._lock:
            if self._control is None or number < self._first:
                return None
            try:
                # A server that does not answer hangs in an import: the child in question never started.
                self._control.settimeout(grace + _SECONDS_TO_ANSWER)
                self._control.send(json.dumps({"end": number, "grace": grace}).encode())
                answer = self._control.recv(MOST_BYTES)
                self._control.settimeout(None)
            except OSError:
                answer = b""
            if not answer:
                self._stop()
                return None
            status: int = json.loads(answer)["status"]
            return status

    def close(self) -> None:
        """End the parent and all its children."""
        with self._lock:
            self._stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _require_process(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        self._stop()
        self._first = self._count + 1
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "pytest_backdoor.scanning._fork_server", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=environment(),
                start_new_session=True,
            )
        self._control = ours

    def _stop(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            try:
                self._process.wait(timeout=5)
            except subprocess.TimeoutExpired:  # in the middle of an import; its children die with it
                self._process.kill()
                self._process.wait()
            self._process = None


def can_fork(settings: ScanSettings) -> bool:
    """Whether a scan with ``settings`` may run in a forked child.

    Linux alone: macOS's system libraries do not survive it. Accelerators cannot be used after a fork of a process that
    has looked for them.
    """
    return sys.platform == "linux" and settings.device == "cpu"


def imports_of(checks: Iterable[str], settings: ScanSettings) -> tuple[str, ...]:
    """The modules that the scan of a model with ``settings`` imports, as far as that is known before."""
    found = [module for check in checks for module in IMPORTS.get(check, ())]
    # A state dict is run by torch, whatever asks.
    if settings.factory is not None and "numpy" in found:
        found.append("torch")
    return tuple(dict.fromkeys(found))
