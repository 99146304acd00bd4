"""Pictures for the report of the pytest-html plugin, where that is written."""

from __future__ import annotations

import html

import pytest

from ..findings import Finding
from ..report import pictures_of


def add_pictures(item: pytest.Item, report: pytest.TestReport, finding: Finding) -> None:
    """Attach the finding's pictures to the test report, as pytest-html looks for them.

    They are JSON values, so that they reach the controller of a distributed run with the report.
    """
    if not item.config.pluginmanager.hasplugin("html") or not item.config.getoption("htmlpath", None):
        return
    pictures = [
        {
            "name": html.escape(picture.name),
            "format_type": "image",
            "content": picture.png,
            "mime_type": "image/png",
            "extension": "png",
        }
        for picture in pictures_of(finding)
    ]
    report.extras = [*getattr(report, "extras", []), *pictures]  # type: ignore[attr-defined]
