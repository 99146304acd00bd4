"""The only place that talks to the Hub; every failure becomes a SettingsError with its remedy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pytest_backdoor.errors import SettingsError

from ._cache import SHA1, SHA256
from ._file import Upstream
from ._name import HubName


class NoSuchHubFileError(SettingsError):
    """The repository has no such file at this revision."""


def endpoint() -> str:
    """The address of the Hub, as ``HF_ENDPOINT`` gave it when the client was imported."""
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


def is_offline() -> bool:
    """Whether ``HF_HUB_OFFLINE`` forbids all requests."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def download(name: HubName) -> Path:
    """The file in the Hub's cache, downloaded if it is not there yet.

    The client compares no hash, and asks nothing at all about a pinned file that it has. Raises SettingsError.
    """
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(name.repo, name.file, revision=name.requested))
    except Exception as error:  # the hub's client raises many types, those of its HTTP library among them
        raise explained(name, error) from error


def listed_hashes(name: HubName, commit: str, files: Iterable[str]) -> Mapping[str, Upstream]:
    """What the Hub lists at a commit for the files among ``files`` that it has. Raises SettingsError."""
    from huggingface_hub import HfApi

    try:
        entries: list[Any] = list(HfApi().get_paths_info(name.repo, list(files), revision=commit))
    except Exception as error:
        raise explained(name, error) from error
    found = {str(entry.path): (entry, listed_hash(entry)) for entry in entries}
    return {
        path: Upstream(commit=commit, alg=listed[0], value=listed[1], size=entry.size)
        for path, (entry, listed) in found.items()
        if listed is not None
    }


def listed_hash(entry: Any) -> tuple[str, str] | None:
    """Algorithm and value of the hash in a ``RepoFile``, None for a folder or where it is no hash that could be used.

    Which algorithm it is of follows from its place, never from its length: ``sha256`` of a file in LFS or Xet, else
    ``git-blob-sha1``.
    """
    lfs, blob = getattr(entry, "lfs", None), getattr(entry, "blob_id", None)
    value, alg, form = (lfs.sha256, "sha256", SHA256) if lfs is not None else (blob, "git-blob-sha1", SHA1)
    return (alg, value) if isinstance(value, str) and form.fullmatch(value) else None


def explained(name: HubName, error: Exception) -> SettingsError:
    """The client's error as a sentence with what to do about it."""
    from huggingface_hub import errors

    start = f"{name} could not be downloaded:"
    if isinstance(error, errors.GatedRepoError):
        return SettingsError(
            f"{start} access to {name.repo} must be granted. Ask for it at {endpoint()}/{name.repo}, then log in with: "
            "hf auth login"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return SettingsError(
            f"{start} there is no repository {name.repo} or it is private. Check its name, or log in with: "
            "hf auth login"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return SettingsError(f"{start} {name.repo} has no revision {name.requested}. Check it.")
    if isinstance(error, errors.LocalEntryNotFoundError):
        return SettingsError(f"{start} {_why_not_cached(name)}")
    if isinstance(error, errors.EntryNotFoundError):
        return NoSuchHubFileError(f"{start} {name.repo} has no such file at {name.requested}. Check its name.")
    return SettingsError(f"{start} {_first_line(error)}")


def _why_not_cached(name: HubName) -> str:
    why = "HF_HUB_OFFLINE is set" if is_offline() else f"{endpoint()} cannot be reached"
    return (
        f"{why}, and it is not in the local cache. Fetch it where there is a network: "
        f"hf download {name.repo} {name.file} --revision {name.requested}"
    )


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
