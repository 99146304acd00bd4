"""From what a user calls a model to a file on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..errors import SettingsError
from ..models.hub import HUB_PREFIX, HubFile, fetch


@dataclass(frozen=True, kw_only=True)
class Source:
    """A model file; ``hub``: what is known of it and its external data if it was fetched from a repository."""

    path: Path
    hub: HubFile | None = None


def locate(name: str, *, base: Path) -> Source:
    """The file that ``name`` means: a path relative to ``base``, or a file of a Hugging Face repository.

    Hub files are downloaded into the hub's cache at their first use. Raises SettingsError if there is no such file.
    """
    if name.startswith(HUB_PREFIX):
        hub = fetch(name)
        return Source(path=hub.path, hub=hub)
    path = base / name
    if not path.exists():
        raise SettingsError(f"There is no model file {name}; check the path.")
    return Source(path=path)
