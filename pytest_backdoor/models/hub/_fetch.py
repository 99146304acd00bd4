"""Fetching a model with all its files, and learning which hash is listed for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from pytest_backdoor.errors import SettingsError

from ._cache import recorded_upstream, split_snapshot
from ._client import NoSuchHubFileError, download, endpoint, is_offline, listed_hashes
from ._file import HubFile, Upstream
from ._locations import external_locations
from ._name import HubName, parse_hub_name

MAX_EXTERNAL_FILES = 1000


def fetch(name: str) -> HubFile:
    """Fetch ``hf://owner/repo@revision/file`` and the external data that it names into the Hub's cache.

    The revision is ``main`` if none is given. All files are of one commit. A file that is in the cache is not fetched
    again; if the Hub cannot be asked, what the cache has for the revision is taken. Raises SettingsError.
    """
    parsed = parse_hub_name(name)
    if parsed is None:
        raise SettingsError(f"{name} is not of the form hf://owner/repo@revision/file.")
    path = download(parsed)
    place = split_snapshot(path, parsed.file)
    commit = place[1] if place else None
    if parsed.pinned and commit not in (parsed.requested, None):
        raise SettingsError(f"The Hub gave commit {commit} of {name} instead of the one asked for; check HF_ENDPOINT.")
    model = HubFile(
        path=path,
        repo=parsed.repo,
        file=parsed.file,
        requested=parsed.requested,
        commit=commit,
        endpoint=endpoint(),
    )
    return _with_upstream(replace(model, external=_external(model)))


def _external(model: HubFile) -> tuple[HubFile, ...]:
    locations = external_locations(model.path)
    if len(locations) > MAX_EXTERNAL_FILES:
        raise SettingsError(f"{model.name} names {len(locations)} external data files, which is more than is fetched.")
    folder = PurePosixPath(model.file).parent
    found = []
    for location in locations:
        file = (folder / location).as_posix()
        try:
            path = download(HubName(repo=model.repo, file=file, revision=model.commit or model.requested))
        except NoSuchHubFileError:  # the scan names the missing file
            continue
        found.append(replace(model, path=path, file=file))
    return tuple(found)


def _with_upstream(model: HubFile) -> HubFile:
    listed = _ask(model)
    external = tuple(replace(file, upstream=_upstream(file, listed)) for file in model.external)
    return replace(model, upstream=_upstream(model, listed), external=external)


def _ask(model: HubFile) -> Mapping[str, Upstream]:
    """What the Hub lists; nothing if it cannot be asked, and then the cache's own records are what is left."""
    if model.commit is None or is_offline():
        return {}
    try:
        return listed_hashes(model.name, model.commit, [file.file for file in model.files()])
    except SettingsError:
        return {}


def _upstream(file: HubFile, listed: Mapping[str, Upstream]) -> Upstream | None:
    return listed.get(file.file) or recorded_upstream(Path(file.path), file.file)
