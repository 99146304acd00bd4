"""Scans that tests ask for: the ``backdoor_scan`` mark and the fixtures."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from ..errors import BackdoorScanError
from ..findings import ModelReport, ScanReport, Verdict
from ..report import explain, one_line, reasons
from ..scanning import display_name, scan_file, scan_network
from ..scanning._sources import locate
from ..settings import ScanSettings
from ._processes import fork_server_of
from ._settings import RunSettings, read_settings
from ._waiting import shown_on_terminal

if TYPE_CHECKING:
    import torch

ScanFunction = Callable[..., ScanReport]

REPORTS_KEY = pytest.StashKey[list[ModelReport]]()
MARKED_KEY = pytest.StashKey[ScanReport]()
SETTINGS_KEY = pytest.StashKey[RunSettings]()
CACHE_KEY = pytest.StashKey[dict[tuple[Any, ...], ModelReport]]()


def scan_marked(item: pytest.Item) -> None:
    """Scan the models of the item's marks and keep the report for the item's call."""
    __tracebackhide__ = True
    models = []
    allowed = True
    for mark in item.iter_markers("backdoor_scan"):
        if len(mark.args) != 1:
            pytest.fail("Write the mark with one model: @pytest.mark.backdoor_scan('model.onnx').", pytrace=False)
        settings, report = _scan(item, mark.args[0], dict(mark.kwargs))
        models.append(report)
        allowed = allowed and settings.allow_unverified
    item.stash[MARKED_KEY] = ScanReport(models=tuple(models), settings={"allow_unverified": allowed})


def require_passed(item: pytest.Item) -> None:
    """Fail the test with the findings if a marked model did not pass."""
    __tracebackhide__ = True
    report = item.stash[MARKED_KEY]
    if not report.passes(allow_unverified=bool(report.settings["allow_unverified"])):
        again = item.config.stash[SETTINGS_KEY].command(item.nodeid)
        pytest.fail("\n\n".join(_explanation(model, again) for model in report.models), pytrace=False)


def make_scan_function(item: pytest.Item) -> ScanFunction:
    """What the ``backdoor_scan`` fixture gives to a test."""

    def scan(model: str | os.PathLike[str] | torch.nn.Module, **settings: Any) -> ScanReport:
        __tracebackhide__ = True
        used, report = _scan(item, model, settings)
        return ScanReport(models=(report,), settings=used.to_json())

    return scan


def marked_report(item: pytest.Item) -> ScanReport:
    """The report of the item's marks; fails the test if it has none."""
    # The mark is scanned in the item's set-up, before that of its fixtures.
    report = item.stash.get(MARKED_KEY, None)
    if report is None:
        pytest.fail("backdoor_report needs @pytest.mark.backdoor_scan('model.onnx') on the test.", pytrace=False)
    return report


def _scan(item: pytest.Item, model: Any, overrides: dict[str, Any]) -> tuple[ScanSettings, ModelReport]:
    __tracebackhide__ = True
    try:
        settings, report = _scan_one(item, model, overrides)
    except BackdoorScanError as error:
        pytest.fail(str(error), pytrace=False)
    item.stash.setdefault(REPORTS_KEY, []).append(report)
    return settings, report


def _scan_one(item: pytest.Item, model: Any, overrides: dict[str, Any]) -> tuple[ScanSettings, ModelReport]:
    config = item.config
    if SETTINGS_KEY not in config.stash:
        config.stash[SETTINGS_KEY] = read_settings(config)
    run = config.stash[SETTINGS_KEY]
    command = run.command(item.nodeid)
    if not isinstance(model, str | os.PathLike):
        settings = run.for_model(type(model).__name__, **overrides)
        report = scan_network(model, settings, run.root)
        return settings, replace(report, settings=settings.to_json(), command=command)
    name = os.fspath(model)
    source = locate(name, base=run.root)
    path = source.path
    display = display_name(name, path, run.root)
    settings = run.for_model(display, **overrides)
    cache = config.stash.setdefault(CACHE_KEY, {})
    # Tests write models too: a file that changed is another model.
    state = path.stat()
    key = (display, settings, state.st_mtime_ns, state.st_size, state.st_ino)
    if key not in cache:
        with shown_on_terminal(config) as on_wait:
            report = scan_file(
                path, display, settings, run.root, server=fork_server_of(config), hub=source.hub, on_wait=on_wait
            )
        cache[key] = replace(report, settings=settings.to_json(), command=command)
    return settings, cache[key]


def _explanation(model: ModelReport, again: str) -> str:
    bad = [finding for finding in model.findings if finding.blocks]
    state = "could not be scanned" if model.verdict is Verdict.ERROR else f"is {model.verdict.value}"
    head = f"{one_line(model.path)} {state}."
    if model.verdict is Verdict.SUSPICIOUS and model.accepted:
        return f"{head} It is accepted."
    if model.verdict is Verdict.UNVERIFIED:
        lines = "\n".join(f"  {reason}" for reason in reasons(model.findings))
        return f"{head}\nNothing that looks at its behaviour could be assessed:\n{lines}"
    return "\n".join([head, *(explain(model.path, finding, again) for finding in bad)])
