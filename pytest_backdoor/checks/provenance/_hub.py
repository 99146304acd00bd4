"""What can be wrong with a file of a Hugging Face repository, although it was downloaded without an error.

The Hub's client compares no hash, neither of what it downloads nor of what it finds in its cache; a pinned commit says
which content is meant, not that this is the content.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from pytest_backdoor.findings import Problem
from pytest_backdoor.models._files import CHUNK_BYTES
from pytest_backdoor.models._format import open_regular
from pytest_backdoor.models.hub import HubFile, Origin

from ._sources import unprotected

SHA256, GIT_SHA1 = "sha256", "git-blob-sha1"
WHOSE = {
    Origin.HUB: "which the Hub lists at commit {commit}",
    Origin.CACHE_TREE: "which is the cache's own record of commit {commit}, not the Hub's answer",
    Origin.CACHE_BLOB: "which is the cache's own record of commit {commit}, not the Hub's answer",
}


def needed_digest(file: HubFile) -> str:
    """The algorithm of the hash that is listed for a file: ``sha256`` or ``git-blob-sha1``."""
    return file.upstream.alg if file.upstream else SHA256


def content_digest(alg: str, size: int, chunks: Iterable[bytes]) -> str:
    """The digest of a content, lower-case hexadecimal; ``size`` in bytes, which a git blob begins with."""
    if alg == SHA256:
        digest = hashlib.sha256()
    elif alg == GIT_SHA1:
        digest = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)
    else:
        raise ValueError(f"There is no algorithm {alg!r} of files of the Hub.")
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def hub_problems(
    hub: HubFile, digests: Mapping[str, str], *, display: str, loopback_is_private: bool = False
) -> list[Problem]:
    """What is wrong with a model from the Hub and its external data.

    ``digests``: for each file of the repository that is loaded, the ``needed_digest`` of the bytes that are loaded.
    ``display``: the model as reports name it. ``loopback_is_private``: do not report an unprotected connection to this
    very machine, where a test's server runs. Raises KeyError for a file without a digest.
    """
    problems = [*_transport(hub, display, loopback_is_private=loopback_is_private), *_pinning(hub, display)]
    for file in hub.files():
        problems += _content(file, digests[file.file], display if file is hub else f"{file.name}")
    return problems


def _transport(hub: HubFile, display: str, *, loopback_is_private: bool) -> Iterator[Problem]:
    reason = unprotected(hub.endpoint, local_server=loopback_is_private) if hub.endpoint else None
    if reason is not None:
        yield Problem(
            rule="plain-http",
            message=f"{display} {reason} ({hub.endpoint}).",
            remedy="Set HF_ENDPOINT to an address that begins with https:// and a host's name, or unset it.",
            path=display,
        )


def _pinning(hub: HubFile, display: str) -> Iterator[Problem]:
    if hub.pinned:
        return
    if hub.commit is None:
        remedy = "Name the commit instead, with all of its 40 lower-case digits."
    else:
        remedy = f"Pin what it means now: {hub.name.at(hub.commit)}"
    yield Problem(
        rule="unpinned-revision",
        message=(
            f"{display} names the revision {hub.requested!r}, which is no whole commit and may mean "
            "another file tomorrow."
        ),
        remedy=remedy,
        path=display,
    )


def _content(file: HubFile, found: str, display: str) -> Iterator[Problem]:
    upstream = file.upstream
    if upstream is None:
        yield Problem(
            rule="no-hash-listed",
            message=f"Which hash the Hub lists for {display} is not known: neither the Hub nor its cache told it.",
            remedy="Scan once with a network, or list the file in the lock file.",
            path=display,
            fails=False,
        )
        return
    if found != upstream.value:
        yield Problem(
            rule="hash-mismatch",
            message=(
                f"The content of {display} is not what was published: its {_title(upstream.alg)} is {found} instead of "
                f"{upstream.value}, {WHOSE[upstream.origin].format(commit=upstream.commit)}."
            ),
            remedy=f"Do not use this file. Delete {file.path.resolve()} and fetch it again: {_download(file)}",
            path=display,
        )
    if upstream.alg == GIT_SHA1:
        yield Problem(
            rule="weak-or-short-hash",
            message=f"The Hub lists only a git SHA-1 for {display}, for which two contents can be made on purpose.",
            remedy="List the file in the lock file, which holds its SHA-256.",
            path=display,
            fails=False,
        )


def file_content(path: Path) -> tuple[int, Iterator[bytes]]:
    """The size of a regular file in bytes and its content in pieces. Raises ModelError, also while it is read."""
    with open_regular(path) as stream:
        size = os.fstat(stream.fileno()).st_size
    return size, _chunks(path)


def _chunks(path: Path) -> Iterator[bytes]:
    with open_regular(path) as stream:
        while chunk := stream.read(CHUNK_BYTES):
            yield chunk


def _title(alg: str) -> str:
    return {SHA256: "SHA-256", GIT_SHA1: "git SHA-1"}[alg]


def _download(file: HubFile) -> str:
    revision = file.commit or file.requested
    return f"hf download {file.repo} {file.file} --revision {revision} --force-download"


def hub_digests(hub: HubFile, read: Callable[[HubFile], tuple[int, Iterable[bytes]]]) -> dict[str, str]:
    """The digests that ``hub_problems`` needs; ``read`` gives the size in bytes and the content of a file."""
    return {file.file: content_digest(needed_digest(file), *read(file)) for file in hub.files()}
