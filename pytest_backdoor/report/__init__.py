"""Rendering scan reports; nothing is computed here."""

from __future__ import annotations

from ._junit import junit_properties
from ._pictures import Picture, pictures_of
from ._strings import one_line
from ._text import accepted_reason, explain, missing_limits, reasons, short_reason, summary_table, unneeded_acceptances
from ._write import REPORT_SUFFIXES, write_report

__all__ = [
    "REPORT_SUFFIXES",
    "Picture",
    "accepted_reason",
    "explain",
    "junit_properties",
    "missing_limits",
    "one_line",
    "pictures_of",
    "reasons",
    "short_reason",
    "summary_table",
    "unneeded_acceptances",
    "write_report",
]
