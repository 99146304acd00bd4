"""The JSON report: everything that is known; ``docs/schema`` says how it is laid out."""

from __future__ import annotations

import json
from typing import Any

from ..findings import ScanReport


def render_json(report: ScanReport) -> bytes:
    """``report`` as version 1 of the JSON report."""
    return encoded(report.to_json())


def encoded(values: Any) -> bytes:
    """JSON values as an indented text with a newline at its end, in UTF-8."""
    text = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False)
    # A file name that is not valid UTF-8 holds lone surrogates, which JSON can escape.
    return f"{text}\n".encode(errors="backslashreplace")
