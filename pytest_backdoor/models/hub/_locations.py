"""Which files an ONNX model keeps its weights in, read in a process of its own: it is somebody else's input."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import subprocess
import sys
from pathlib import Path

from pytest_backdoor.errors import ModelError
from pytest_backdoor.models._format import open_regular, sniff_stream

TIMEOUT_SECONDS = 120.0
MEMORY_FACTOR, MEMORY_EXTRA = 6, 1 << 30


def external_locations(path: Path) -> list[str]:
    """The external data that the model at ``path`` names, as it names them; empty if it names none that are allowed.

    What is wrong with the file is for the scan to say: a file that cannot be read or parsed names none.
    """
    if not _may_name_files(path):
        return []
    command = [sys.executable, "-P", "-m", __name__, str(path)]
    try:
        answer = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=TIMEOUT_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [str(location) for location in json.loads(answer.stdout)]


def _may_name_files(path: Path) -> bool:
    """Whether it is an ONNX file that holds the key of every file name anywhere: most models are spared the process."""
    try:
        with open_regular(path) as stream:
            if sniff_stream(stream) != "onnx":
                return False
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return content.find(b"location") >= 0
    except (ModelError, ValueError):
        return False


def main() -> None:
    """Print the locations of the model that is named on the command line, as JSON."""
    from pytest_backdoor.models._files import subject_files

    path = Path(sys.argv[1])
    _limit_memory(os.stat(path).st_size)
    try:
        locations = [file.location for file in subject_files(path)[1:]]
    except ModelError:  # refused external data among them: none of them is fetched
        locations = []
    print(json.dumps(locations))


def _limit_memory(size: int) -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        limit = MEMORY_FACTOR * size + MEMORY_EXTRA
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


if __name__ == "__main__":
    main()
