"""Report files: the extension of the name chooses the format."""

from __future__ import annotations

import json
from pathlib import Path

from ..files import write_atomically
from ..findings import ScanReport

REPORT_SUFFIXES = (".json",)


def write_report(report: ScanReport, path: Path) -> None:
    """Write ``report`` to ``path``; a reader never sees a part of it. Raises OSError."""
    text = json.dumps(report.to_json(), indent=2, ensure_ascii=False, allow_nan=False)
    # A file name that is not valid UTF-8 holds lone surrogates, which JSON can escape.
    write_atomically(path, f"{text}\n".encode(errors="backslashreplace"))
