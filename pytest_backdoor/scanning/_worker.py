"""The child process of a ``ScanSession``: one request in JSON a line, one answer a line."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import sys
import threading
from pathlib import Path
from typing import IO, Any

from ..models import Subject
from ..models.hub import HubFile
from ..settings import ScanSettings, make_settings
from ._engine import Engine


def main() -> None:
    """Answer requests until the parent closes the pipe."""
    answers = _claim_standard_output()
    requests = _requests()
    opening = requests.get()
    settings = make_settings(opening["settings"], where="the scan's settings")
    root = Path(opening["root"])
    _limit_memory(settings)
    # The factory of a state dict lives in the user's repository.
    sys.path.append(str(root))
    hub = HubFile.from_json(opening["hub"]) if "hub" in opening else None
    subject = Subject(opening["display"], settings, path=Path(opening["path"]), root=root, hub=hub)
    engine = Engine(subject, settings, root)
    while True:
        request = requests.get()
        answer: Any = engine.run(request["check"]).to_json() if "check" in request else engine.describe()
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


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


def _requests() -> queue.SimpleQueue[dict[str, Any]]:
    """The parent's requests; the process ends at once when the parent is gone, even in the middle of a check."""
    received: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    stream = _claim_standard_input()

    def read() -> None:
        for line in stream:
            received.put(json.loads(line))
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    return received


def _limit_memory(settings: ScanSettings) -> None:
    if not settings.memory:
        return
    # RLIMIT_DATA counts what the process allocates, not the libraries that it maps; Windows has no such limit.
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        limit = settings.memory * 2**20
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


if __name__ == "__main__":
    main()
