"""A process that starts the processes that scan: it has imported what they need, and forks one for each model.

Importing torch takes longer than many scans. A forked child has everything imported at once, and yet nothing that one
model does to its process can reach the scan of the next one, since this parent never touches a model file.

The parent speaks to it through a Unix socket, one message in JSON each: ``start`` with the two ends of pipes that the
child shall read from and write to, ``end`` to wait for a child, or to kill it. Only here is a child waited for and
killed, so that a process number is never used after it was given to another process. When the socket closes, by
whatever end of the process that started it, all children are killed and their folders removed.

Python and the libraries may be forked only while there is one thread, since a lock that another thread holds would stay
locked in the child for ever. So ONNX Runtime, which starts a thread when it is imported (seen in 1.32), is left to the
child, OpenBLAS is told to start none, and threads are counted before each fork: where there is more than one, the child
is spawned instead, as where there is no fork.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NoReturn

from ._network import control_process

MOST_BYTES = 1 << 16
WORKER = (sys.executable, "-P", "-m", "pytest_backdoor.scanning._worker")
_SET_DEATH_SIGNAL = 1
_SECONDS_BETWEEN_LOOKS = 0.005


@dataclass(frozen=True, kw_only=True)
class _Child:
    pid: int
    directory: str


def main() -> None:
    """Serve until the other end of the socket, whose file descriptor is the only argument, is closed."""
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    # What is warm already: the worker and all that it imports when it is imported.
    importlib.import_module("pytest_backdoor.scanning._worker")
    children: dict[int, _Child] = {}
    try:
        while True:
            message, descriptors, _, _ = socket.recv_fds(control, MOST_BYTES, 2)
            if not message:
                return
            request = json.loads(message)
            if "start" in request:
                children[request["start"]] = _start(request, descriptors, control)
            else:
                status = _end(children.pop(request["end"]), request["grace"])
                control.send(json.dumps({"status": status}).encode())
    except (ConnectionError, BrokenPipeError):
        return
    finally:
        for child in children.values():
            _end(child, 0)
            shutil.rmtree(child.directory, ignore_errors=True)


def _start(request: dict[str, Any], descriptors: list[int], control: socket.socket) -> _Child:
    _import(request["modules"])
    requests, answers = descriptors
    pid = _fork(requests, answers, control) if _threads() == 1 else _spawn(requests, answers)
    for descriptor in descriptors:
        os.close(descriptor)
    return _Child(pid=pid, directory=request["directory"])


def _import(modules: Iterable[str]) -> None:
    for name in modules:
        # The check that needs it says what is wrong with it.
        with contextlib.suppress(Exception):
            importlib.import_module(name)


def _threads() -> int:
    """All threads of this process, also those that Python does not know; 0 where that cannot be told."""
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return 0


def _spawn(requests: int, answers: int) -> int:
    process = subprocess.Popen(
        WORKER, stdin=requests, stdout=answers, stderr=subprocess.DEVNULL, start_new_session=True
    )
    process.returncode = 0  # it is waited for by its number
    return process.pid


def _fork(requests: int, answers: int, control: socket.socket) -> int:
    server = os.getpid()
    pid = os.fork()
    if not pid:
        _become_worker(requests, answers, control, server)
    # Both sides do it, so that it is done whoever comes first.
    with contextlib.suppress(OSError):
        os.setpgid(pid, pid)
    return pid


def _become_worker(requests: int, answers: int, control: socket.socket, server: int) -> NoReturn:
    status = 1
    try:
        with contextlib.suppress(OSError):
            os.setpgid(0, 0)
        control_process(_SET_DEATH_SIGNAL, signal.SIGKILL)
        if os.getppid() != server:
            os._exit(1)
        control.close()
        os.dup2(requests, 0)
        os.dup2(answers, 1)
        os.close(requests)
        os.close(answers)
        from ._worker import main as work

        work("forked")
    except SystemExit as leaving:
        status = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    finally:
        os._exit(status & 0xFF)


def _end(child: _Child, grace: float) -> int:
    """Wait up to ``grace`` seconds for the child's own end, else kill it; its exit status, negative for a signal."""
    deadline = time.monotonic() + grace
    while not _has_ended(child.pid) and time.monotonic() < deadline:
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    # While the child has not been waited for, its number and its group's belong to it, ended or not.
    for kill in (os.killpg, os.kill):
        with contextlib.suppress(OSError):
            kill(child.pid, signal.SIGKILL)
    _, status = os.waitpid(child.pid, 0)
    return os.waitstatus_to_exitcode(status)


def _has_ended(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


if __name__ == "__main__":
    main()
