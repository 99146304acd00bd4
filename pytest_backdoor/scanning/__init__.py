"""Scanning without pytest: ``pytest_backdoor.scan("model.onnx")`` gives a ``ScanReport``."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import SettingsError
from ..findings import ModelReport, ScanReport
from ..models.hub import HUB_PREFIX
from ..settings import ScanSettings, make_settings
from ._sources import locate

if TYPE_CHECKING:
    import torch

    from ..models.hub import HubFile
    from ._processes import ForkServer
    from ._session import OnWait

LOCK_NAME = "models.lock"


def scan(
    model: str | os.PathLike[str] | torch.nn.Module, *, root: str | os.PathLike[str] = ".", **settings: Any
) -> ScanReport:
    """Scan one model and return the report.

    ``model`` is the path of a model file, ``hf://owner/repo@revision/file``, or a live torch network. ``settings``
    are those of ``ScanSettings``; an unknown one raises SettingsError, as does a missing file. ``root`` is the folder
    that relative settings and the lock file ``models.lock`` are looked for in. A file is scanned in a process of its
    own, without network, in an empty working directory and within the ``timeout`` and ``memory`` settings; a live
    network is scanned in this process, without limits.
    """
    folder = Path(root).resolve()
    checked = with_found_lock(make_settings(settings, where="scan()"), folder)
    if isinstance(model, str | os.PathLike):
        name = os.fspath(model)
        source = locate(name, base=Path.cwd())
        display = display_name(name, source.path, folder)
        report = scan_file(source.path, display, checked, folder, hub=source.hub)
    else:
        report = scan_network(model, checked, folder)
    used = checked.to_json()
    return ScanReport(models=(replace(report, settings=used),), settings=used)


def scan_file(
    path: Path,
    display: str,
    settings: ScanSettings,
    root: Path,
    *,
    server: ForkServer | None = None,
    hub: HubFile | None = None,
    on_wait: OnWait | None = None,
) -> ModelReport:
    """The report on one model file, named ``display``, scanned in a child process, which ``server`` forks if given.

    ``hub``: see ``Source``. ``on_wait`` is told about every second which check is running, and for how many seconds.
    """
    from ._session import ScanSession

    with ScanSession(path, display, settings, root, server=server, hub=hub) as session:
        return session.report(on_wait)


def scan_network(network: torch.nn.Module, settings: ScanSettings, root: Path) -> ModelReport:
    """The report on a live torch network, scanned in this process."""
    from ..models import Subject
    from ._engine import Engine
    from ._limits import Isolation
    from ._shapes import input_shape_of_samples

    if not callable(getattr(network, "state_dict", None)):
        raise SettingsError(f"A model is a path or a torch.nn.Module, not {type(network).__name__}.")
    if settings.input_shape is None:
        settings = replace(settings, input_shape=input_shape_of_samples(settings, root))
    subject = Subject(type(network).__name__, settings, network=network, root=root)
    report = Engine(subject, settings, root).report()
    return replace(report, isolation=Isolation(process="none").to_json())


def with_found_lock(settings: ScanSettings, root: Path) -> ScanSettings:
    """``settings`` with the lock file ``models.lock`` of ``root``, if there is one and none is named."""
    if settings.lock is None and (root / LOCK_NAME).is_file():
        return replace(settings, lock=LOCK_NAME)
    return settings


def display_name(name: str, path: Path, root: Path) -> str:
    """How reports name a model: relative to ``root`` where it lies below, as typed otherwise; always with ``/``."""
    if name.startswith(HUB_PREFIX):
        return name
    resolved = Path(os.path.abspath(path))
    return Path(os.path.relpath(resolved, root)).as_posix() if resolved.is_relative_to(root) else resolved.as_posix()


__all__ = ["scan"]
