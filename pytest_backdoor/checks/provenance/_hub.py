"""What can be wrong with a file of a Hugging Face repository, although it was downloaded without an error.

The Hub's client compares no hash, neither of what it downloads nor of what it finds in its cache; a pinned commit says
which content is meant, not that this is the content.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from pytest_backdoor.findings import Problem
from pytest_backdoor.models.hub import HubFile, Origin

from ._digests import Digests, subject_digests
from ._sources import unprotected

if TYPE_CHECKING:
    from pytest_backdoor.models import Subject

SHA256, GIT_SHA1 = "sha256", "git-blob-sha1"
WHOSE = {
    Origin.HUB: "which the Hub lists at commit {commit}",
    Origin.CACHE_TREE: "which is the cache's own record of commit {commit}, not the Hub's answer",
    Origin.CACHE_BLOB: "which is the cache's own record of commit {commit}, not the Hub's answer",
}


def hub_problems(
    hub: HubFile, digests: Mapping[str, Digests], *, display: str, local_server: bool = False
) -> list[Problem]:
    """What is wrong with a model from the Hub and its external data.

    ``digests``: of the bytes of each file of the repository that is loaded, by its name there. ``display``: the model
    as reports name it. ``local_server``: this machine's own addresses may be used without TLS, for tests.
    """
    problems = [*_transport(hub, display, local_server=local_server), *_pinning(hub, display)]
    for file in hub.files():
        if file.file in digests:  # one that is not there is reported by whoever read the files
            alg = file.upstream.alg if file.upstream else SHA256
            problems += _content(file, digests[file.file](alg), display if file is hub else str(file.name))
    return problems


def _transport(hub: HubFile, display: str, *, local_server: bool) -> Iterator[Problem]:
    reason = unprotected(hub.endpoint, local_server=local_server) if hub.endpoint else None
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


def _title(alg: str) -> str:
    return {SHA256: "SHA-256", GIT_SHA1: "git SHA-1"}[alg]


def _download(file: HubFile) -> str:
    revision = file.commit or file.requested
    return f"hf download {file.repo} {file.file} --revision {revision} --force-download"


def subject_hub_problems(subject: Subject) -> list[Problem]:
    """``hub_problems`` of the bytes that were read of a model; nothing for one that is not from the Hub.

    Raises ModelError if a file cannot be read.
    """
    if subject.hub is None:
        return []
    digests: dict[str, Digests] = {}
    folder = PurePosixPath(subject.hub.file).parent
    for file in subject.files:
        if file.sha256 is not None:
            name = subject.hub.file if file.location is None else (folder / file.location).as_posix()
            digests[name] = subject_digests(file)
    return hub_problems(subject.hub, digests, display=subject.display)
