"""The child process of a ``ScanSession``: one request in JSON a line, one answer a line.

The first line it is sent says what to scan and within which limits, the first one it writes says which hold.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Literal

from ..models import Subject
from ..models.hub import HubFile
from ..settings import make_settings
from ._engine import Engine
from ._limits import Limits, limit_this_process


def main(process: Literal["forked", "spawned"] = "spawned") -> None:
    """Answer requests until the parent closes the pipe."""
    answers = _claim_standard_output()
    requests = _claim_standard_input()
    opening = json.loads(requests.readline())
    if process == "forked":
        _take_over(opening["environment"])
    root = Path(opening["root"])
    # The factory of a state dict lives in the user's repository. The working directory changes.
    sys.path[:] = [os.path.abspath(entry) for entry in (*sys.path, str(root))]
    isolation = limit_this_process(Limits(**opening["limits"]), process)
    _write(answers, {"isolation": isolation.to_json()})
    received = _read_in_background(requests)
    settings = make_settings(opening["settings"], where="the scan's settings")
    hub = HubFile.from_json(opening["hub"]) if "hub" in opening else None
    subject = Subject(opening["display"], settings, path=Path(opening["path"]), root=root, hub=hub)
    engine = Engine(subject, settings, root)
    while True:
        request = received.get()
        _write(answers, engine.run(request["check"]).to_json() if "check" in request else engine.describe())


def _write(answers: IO[str], answer: Any) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def _take_over(environment: Mapping[str, str]) -> None:
    """The parent's environment of now: a forked child has that of its warm parent's start."""
    for name in set(os.environ) - set(environment):
        del os.environ[name]
    os.environ.update(environment)


def _claim_standard_output() -> IO[str]:
    """A stream for answers alone: what libraries print goes to standard error instead."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def _claim_standard_input() -> IO[str]:
    """A stream of requests alone: what else reads from standard input finds it empty."""
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    return requests


def _read_in_background(requests: IO[str]) -> queue.SimpleQueue[dict[str, Any]]:
    """The parent's requests; the process ends at once when the parent is gone, even in the middle of a check."""
    received: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def read() -> None:
        for line in requests:
            received.put(json.loads(line))
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    return received


if __name__ == "__main__":
    main()
