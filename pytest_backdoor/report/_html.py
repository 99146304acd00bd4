"""The HTML report: one file without scripts that loads nothing, made by the templates beside this module."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..findings import ScanReport
from ._pictures import Picture
from ._strings import visible
from ._view import RunView, run_view
from ._words import number

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup

TEMPLATES = Path(__file__).with_name("templates")
# Browsers and mail take more, but a report of ten models should open at once.
MOST_PICTURE_BYTES = 600_000
MOST_MODELS = 500
_BASE64 = re.compile("[A-Za-z0-9+/]*={0,2}")


def render_html(report: ScanReport) -> bytes:
    """``report`` as an HTML document in UTF-8, the worst model first.

    Every text is escaped by the template engine after characters that hide or turn text were written as escapes.
    Pictures are left out beyond 600 kB, those of the least suspicious models first, and models beyond 500 are only
    counted; the page says so.
    """
    from .. import __version__

    run = run_view(report)
    text = _template().render(
        run=run,
        verdict=report.verdict.value,
        models=run.models[:MOST_MODELS],
        shown=frozenset(_affordable(run)),
        version=__version__,
    )
    return text.encode(errors="backslashreplace")


def _affordable(run: RunView) -> Iterator[str]:
    """The pictures that there is room for, by their content; each counts as often as it is shown."""
    room = MOST_PICTURE_BYTES
    for picture in _pictures(run):
        room -= len(picture.png)
        if room < 0:
            return
        yield picture.png


def _pictures(run: RunView) -> Iterator[Picture]:
    for model in run.models[:MOST_MODELS]:
        for check in model.checks:
            yield from check.pictures


def _base64(png: str) -> Markup:
    """A picture's content as it is: it is long, and none of its characters needs an escape."""
    from markupsafe import Markup

    return Markup(png if _BASE64.fullmatch(png) else "")


@cache
def _template() -> Template:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    def harmless(value: Any) -> Any:
        return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value

    environment = Environment(
        autoescape=True,
        finalize=harmless,
        loader=FileSystemLoader(TEMPLATES),
        lstrip_blocks=True,
        trim_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"number": number, "base64": _base64}
    environment.globals["style"] = Markup((TEMPLATES / "style.css").read_text(encoding="utf-8"))  # our own file
    return environment.get_template("report.html")
