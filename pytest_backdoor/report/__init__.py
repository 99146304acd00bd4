"""Rendering scan reports; nothing is computed here."""

from __future__ import annotations

from ._json import REPORT_SUFFIXES, write_report
from ._text import explain, missing_limits, short_reason, summary_table

__all__ = ["REPORT_SUFFIXES", "explain", "missing_limits", "short_reason", "summary_table", "write_report"]
