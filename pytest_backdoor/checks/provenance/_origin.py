"""What an entry may say about where its model is from, after comparing the file with what its publisher states."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pytest_backdoor.errors import LockError
from pytest_backdoor.models.hub import is_commit

from ._claims import published_hashes
from ._digests import SHA256_PREFIX, Digests, file_digests, hash_matches, is_strong, is_too_short, name_hash
from ._lockfile import Artifact
from ._names import sibling_name
from ._record import recorded_by
from ._sources import cache_name, source_of
from ._upstream import Upstream

Resolve = Callable[[str, str, str], Upstream]


@dataclass(frozen=True, kw_only=True)
class Statement:
    """What a person says about a model when recording it.

    ``source``, ``upstream``, ``signature``, ``allow``: tables as in the lock file; None and empty if not said. Of a
    source on the Hub the revision is what was asked for, perhaps no commit yet. ``trust``: record the file even if
    nobody published its hash.
    """

    source: Mapping[str, Any] | None = None
    upstream: Mapping[str, Any] | None = None
    signature: Mapping[str, Any] | None = None
    allow: tuple[Mapping[str, str], ...] = field(default=())
    trust: bool = False


def with_origin(artifact: Artifact, path: Path, statement: Statement, resolve: Resolve) -> Artifact:
    """The entry of the file at ``path`` with everything that is said and known about its origin.

    ``resolve``: asks the Hub for commit and hash (``_upstream.resolve_upstream``); it is not called for a Hub source
    that is trusted on first use and pinned to a commit. Raises LockError if the file differs from a published hash, if
    nobody published one and the file is not to be trusted without, or if the Hub gives no answer.
    """
    source = statement.source or {"type": "local"}
    claims: dict[str, Any] = {"source": dict(source)}
    if statement.upstream:
        claims["upstream"] = dict(statement.upstream)
        _refuse_mismatch(replace(artifact, claims=claims), path)
    if source["type"] == "hf" and not (statement.trust and is_commit(source["revision"])):
        hub = _ask_hub(source, artifact, path, resolve, artifact.sha256)
        # A SHA-256 that a person typed says more than git's hash, which is all that the Hub has for small files.
        claims |= (
            hub if not _is_strong(statement.upstream) or _is_strong(hub["upstream"]) else {"source": hub["source"]}
        )
    elif source["type"] == "torch-hub" and not statement.upstream:
        in_name = name_hash(cache_name(source) or "")
        if in_name:
            claims["upstream"] = {"alg": SHA256_PREFIX, "value": in_name, "from": "filename-prefix"}
    if statement.signature:
        claims["signature"] = dict(statement.signature)
    if statement.allow:
        claims["allow"] = [dict(entry) for entry in statement.allow]
    claims["recorded"] = recorded_by(_how(claims, statement, artifact.path))
    result = replace(artifact, claims=claims)
    _refuse_mismatch(result, path)
    return result


def _is_strong(upstream: Mapping[str, Any] | None) -> bool:
    return upstream is not None and is_strong(upstream["alg"], upstream["value"])


def _how(claims: Mapping[str, Any], statement: Statement, name: str) -> str:
    upstream = claims.get("upstream")
    if upstream and not is_too_short(upstream["alg"], upstream["value"]):
        return "upstream-match"
    if statement.signature:
        return "signature"
    if statement.trust:
        return "trust-on-first-use"
    raise LockError(
        f"Nobody published a hash of {name} that is known here; name one with --published-hash ALGORITHM:VALUE, or "
        "record the file as it is with --trust-on-first-use."
    )


def _ask_hub(
    source: Mapping[str, Any], artifact: Artifact, path: Path, resolve: Resolve, known: str | None = None
) -> dict[str, Any]:
    """Source and upstream as the Hub states them, after comparing the model and its external data with it.

    ``known``: the SHA-256 of the file at ``path`` where it was computed already.
    """
    repo, file, requested = source["repo"], source["file"], source["revision"]
    answer = resolve(repo, file, requested)
    _compare(artifact.path, answer, file_digests(path, known))
    for external in artifact.external:
        location = external.path.removeprefix(artifact.path.rpartition("/")[0]).removeprefix("/")
        theirs = resolve(repo, sibling_name(file, location), answer.commit)
        _compare(external.path, theirs, file_digests(path.parent / location))
    pinned = {"type": "hf", "repo": repo, "file": file, "revision": answer.commit}
    return {
        "source": pinned | ({} if requested == answer.commit else {"requested": requested}),
        "upstream": {"alg": answer.alg, "value": answer.value, "from": answer.came_from},
    }


def compare_with_hub(artifact: Artifact, path: Path, resolve: Resolve) -> str | None:
    """Compare a model that is from the Hub, and its external data, with what the Hub has at the recorded revision.

    Gives a sentence where what was asked for when it was recorded means another commit today, else None. Raises
    LockError if the Hub gives no answer or has another file, ModelError if a file cannot be read.
    """
    source = source_of(artifact)
    repo, file, recorded = source["repo"], source["file"], source["revision"]
    current = _ask_hub(source, artifact, path, resolve)["source"]["revision"]
    if "requested" in source:
        current = resolve(repo, file, source["requested"]).commit
    if current == recorded:
        return None
    return f"{source.get('requested', recorded)!r} of {repo} is commit {current} today, {recorded} is recorded."


def _compare(name: str, theirs: Upstream, digests: Digests) -> None:
    if not hash_matches(theirs.alg, theirs.value, digests):
        raise LockError(
            f"{name} is not the file that the Hub has at commit {theirs.commit}: its {theirs.alg} is "
            f"{digests(theirs.alg)}, the Hub states {theirs.value}; fetch the file again."
        )


def _refuse_mismatch(artifact: Artifact, path: Path) -> None:
    digests = file_digests(path, artifact.sha256)
    for one in published_hashes(artifact):
        if not hash_matches(one.alg, one.value, digests):
            found = digests("sha256" if one.alg == SHA256_PREFIX else one.alg)
            raise LockError(
                f"{path} does not have the published {one.alg} {one.value} ({one.where}) but {found}; nothing was "
                "recorded. Fetch the file again from its publisher."
            )
