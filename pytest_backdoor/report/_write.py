"""Report files: the extension of the name chooses the format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..files import write_atomically
from ..findings import ScanReport
from ._json import render_json

REPORT_SUFFIXES = (".json", ".html", ".sarif", ".md")


def write_report(report: ScanReport, path: Path, *, root: Path | None = None, listings: Sequence[Path] = ()) -> None:
    """Write ``report`` to ``path``; a reader never sees a part of it. Raises OSError.

    ``root``: the folder that the models' names are relative to; default: the current one. ``listings``: text files that
    name models, the lock file first, whose lines SARIF points to. Raises ValueError for an unknown extension.
    """
    write_atomically(path, _render(report, path.suffix, root or Path.cwd(), listings))


def _render(report: ScanReport, suffix: str, root: Path, listings: Sequence[Path]) -> bytes:
    # Each format is imported when it is asked for: a template engine is not needed to write JSON.
    if suffix == ".json":
        return render_json(report)
    if suffix == ".html":
        from ._html import render_html

        return render_html(report)
    if suffix == ".sarif":
        from ._sarif import render_sarif

        return render_sarif(report, root=root, listings=listings)
    if suffix == ".md":
        from ._markdown import render_markdown

        return render_markdown(report)
    raise ValueError(f"A report has one of the extensions {', '.join(REPORT_SUFFIXES)}, not {suffix!r}.")
