"""From what a user calls a model to a file on this machine."""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import SettingsError

HUB_PREFIX = "hf://"
_HUB_NAME = re.compile(r"hf://(?P<repo>[^/@\s]+/[^/@\s]+)(?:@(?P<revision>[^/\s]+))?/(?P<file>[^\s]+)")


def locate(name: str, *, base: Path) -> Path:
    """The file that ``name`` means: a path relative to ``base``, or a file of a Hugging Face repository.

    Hub files are downloaded into the hub's cache at their first use. Raises SettingsError if there is no such file.
    """
    if name.startswith(HUB_PREFIX):
        return download(name)
    path = base / name
    if not path.exists():
        raise SettingsError(f"There is no model file {name}; check the path.")
    return path


def download(name: str) -> Path:
    """Download ``hf://owner/repo@revision/file``; the revision is ``main`` if none is given."""
    match = _HUB_NAME.fullmatch(name)
    if not match:
        raise SettingsError(f"{name} is not of the form hf://owner/repo@revision/file.")
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(match["repo"], match["file"], revision=match["revision"] or "main"))
    except Exception as error:  # the hub's client raises many types, those of its HTTP library among them
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise SettingsError(f"{name} could not be downloaded: {reason}") from error
