"""What an address says about itself: whether it is protected on the way, and whether it may change its content."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from pytest_backdoor.errors import LockError
from pytest_backdoor.models.hub import HUB_PREFIX, is_commit, parse_hub_name

from ._claims_schema import check_source
from ._lockfile import Artifact
from ._tables import InvalidLockError

UNPROTECTED = ("http", "ftp")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
NUMERIC_LABEL = re.compile(r"0x[0-9a-f]*|[0-9]+")
REVISION_IN_PATH = re.compile(r"/(?:resolve|raw|blob)/(?P<revision>refs/[^/]+/[^/]+|[^/]+)/")
RAW_HOSTS = ("raw.githubusercontent.com", "media.githubusercontent.com")
WEB_TYPES = {"torch-hub:": "torch-hub", "keras:": "keras"}


def source_of(artifact: Artifact) -> Mapping[str, Any]:
    """Where the model is from: the entry's source, or what an ``hf://`` name says; ``local`` if neither does."""
    if "source" in artifact.claims:
        source: Mapping[str, Any] = artifact.claims["source"]
        return source
    return default_source(artifact.path)


def default_source(name: str) -> dict[str, Any]:
    """Where a model of this name is from as long as nobody says more."""
    return name_source(name) or {"type": "local"}


def name_source(name: str) -> dict[str, Any] | None:
    """The source that an ``hf://`` name means; None for every other name."""
    parsed = parse_hub_name(name)
    if parsed is None:
        return None
    return {"type": "hf", "repo": parsed.repo, "file": parsed.file, "revision": parsed.requested}


def parse_source(text: str) -> dict[str, Any]:
    """The source that a person typed: ``hf://owner/repo@revision/file`` or a URL.

    ``torch-hub:URL`` and ``keras:URL`` say that the file is fetched by torch.hub or Keras, whose caches know it by the
    last part of the URL alone. Raises LockError if it is neither.
    """
    if text.startswith(HUB_PREFIX):
        source = name_source(text)
        if source is None:
            raise LockError(f"{text} is not of the form hf://owner/repo@revision/file; correct it.")
    else:
        mark = next((mark for mark in WEB_TYPES if text.startswith(mark)), "")
        source = {"type": WEB_TYPES.get(mark, "url"), "url": text.removeprefix(mark)}
    try:
        check_source(source, "it")
    except InvalidLockError as error:
        raise LockError(f"{text!r} cannot be recorded as a source: {error}.") from error
    return source


def unprotected(url: str, *, local_server: bool = False) -> str | None:
    """Why what is fetched from ``url`` may be exchanged on the way, as the end of a sentence; None if it may not.

    ``local_server``: this machine's own addresses are exempt, for tests.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    if local_server and host in LOOPBACK:
        return None
    if parts.scheme.lower() in UNPROTECTED:
        return f"is fetched by plain {parts.scheme.lower()}, so anybody on the way can exchange it"
    if ":" in host or NUMERIC_LABEL.fullmatch(host.rpartition(".")[2]):
        return f"is fetched from the bare address {host}, which no certificate ties to a publisher"
    return None


def unpinned(source: Mapping[str, Any]) -> str | None:
    """The revision that may point to another content tomorrow, for a source that has one; None if it is pinned."""
    if source["type"] == "hf":
        revision = str(source.get("revision", "main"))
        return None if is_commit(revision) else revision
    if "url" not in source:
        return None
    parts = urlsplit(source["url"])
    path = unquote(parts.path)
    found = [match["revision"] for match in REVISION_IN_PATH.finditer(path)]
    if (parts.hostname or "").lower() in RAW_HOSTS:
        pieces = path.removeprefix("/media").split("/")
        found.extend(pieces[3:4])
    pull = re.search(r"refs/pr/[^/]+", path)
    if pull:
        found.append(pull[0])
    return next((revision for revision in found if not is_commit(revision)), None)


def cache_name(source: Mapping[str, Any]) -> str | None:
    """Under which name torch.hub or Keras keep the file, for all sites alike; None if the source has no such cache."""
    if source["type"] not in ("torch-hub", "keras"):
        return None
    return str(source.get("file-name") or unquote(urlsplit(source["url"]).path).rpartition("/")[2])
