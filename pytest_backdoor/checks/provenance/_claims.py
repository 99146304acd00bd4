"""What is wrong with what an entry says about its model: published hashes, where it is from, exceptions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from pytest_backdoor.errors import LockError
from pytest_backdoor.findings import Problem

from ._claims_schema import SOURCE_HASHES
from ._digests import SHA256_PREFIX, Digests, hash_matches, is_strong, is_too_short, name_hash
from ._exceptions import excused, expired_exceptions
from ._lockfile import Artifact, Lock
from ._names import clash_key
from ._sources import cache_name, name_source, parse_source, source_of, unpinned, unprotected


@dataclass(frozen=True, kw_only=True)
class PublishedHash:
    """A hash of the model file that somebody else published, and where the entry has it from."""

    alg: str
    value: str
    where: str


def claim_problems(
    artifact: Artifact,
    lock: Lock,
    digests: Digests,
    today: date,
    *,
    display: str | None = None,
    hub_endpoint: str = "",
    local_server: bool = False,
) -> list[Problem]:
    """Every rule that an entry breaks by what it says beside path, size and SHA-256; what is allowed is marked so.

    ``digests``: gives the lower-case hexadecimal digest of the model file for the name of an algorithm; it is asked
    for the published ones only, so an entry whose published hash is its SHA-256 costs no second reading. ``today``:
    exceptions hold up to and including their date. ``display``: how reports name the model, if not as the lock file
    does. ``hub_endpoint``: the address of the Hub if it is another than the usual (``HF_ENDPOINT``). ``local_server``:
    this machine's own addresses may be used without TLS, for tests. Raises what ``digests`` raises.
    """
    name = display or artifact.path
    problems = [
        *_hash_problems(artifact, digests, name),
        *_transport_problems(artifact, name, hub_endpoint, local_server=local_server),
        *_revision_problems(artifact, name),
        *_collisions(artifact, lock, name),
    ]
    return [*excused(problems, artifact, lock, today), *expired_exceptions(artifact, today, name)]


def declared_source_problems(text: str | None, display: str) -> list[Problem]:
    """The same of the ``source`` setting, as far as that is an address and not a description."""
    if text is None or "://" not in text:
        return []
    try:
        source = parse_source(text)
    except LockError:
        return []
    artifact = Artifact(path=display, size=0, sha256="", format="", claims={"source": source})
    return [*_transport_problems(artifact, display, "", local_server=False), *_revision_problems(artifact, display)]


def published_hashes(artifact: Artifact) -> list[PublishedHash]:
    """All hashes that the entry lists beside its own SHA-256, those in the file's name in torch.hub's cache too."""
    source = source_of(artifact)
    found = []
    if "upstream" in artifact.claims:
        upstream = artifact.claims["upstream"]
        found.append(PublishedHash(alg=upstream["alg"], value=upstream["value"], where=f"from {upstream['from']}"))
    for key, alg in SOURCE_HASHES.items():
        if key in source:
            found.append(PublishedHash(alg=alg, value=source[key], where=f"from {key} of the source"))
    if "file_hash" in source:
        found.append(PublishedHash(alg=source["alg"], value=source["file_hash"], where="from file_hash of the source"))
    in_name = name_hash(cache_name(source) or "") if source["type"] == "torch-hub" else None
    if in_name:
        found.append(PublishedHash(alg=SHA256_PREFIX, value=in_name, where="from the file's name"))
    return found


def _hash_problems(artifact: Artifact, digests: Digests, display: str) -> list[Problem]:
    hashes = published_hashes(artifact)
    # All must match: one weak alternative would otherwise be enough for whoever can forge that one.
    problems = [
        Problem(
            rule="hash-mismatch",
            message=f"{display} does not have the published {one.alg} {one.value} ({one.where}).",
            remedy="Do not use this file; fetch it again from its publisher, and report it there if it stays so.",
            path=display,
        )
        for one in hashes
        if not hash_matches(one.alg, one.value, digests)
    ]
    usable = [one for one in hashes if not is_too_short(one.alg, one.value)]
    if not usable:
        return [*problems, *_nothing_listed(artifact, display, short=bool(hashes))]
    if not any(is_strong(one.alg, one.value) for one in usable):
        names = ", ".join(sorted({_described(one) for one in usable}))
        problems.append(
            Problem(
                rule="weak-or-short-hash",
                message=f"The published hash of {display} is {names} only, which another file can be made to have.",
                remedy="Ask the publisher for a SHA-256 and record it, or allow this in the entry, with a reason and a "
                "date.",
                path=display,
            )
        )
    return problems


def _described(one: PublishedHash) -> str:
    return f"{len(one.value)} digits of a SHA-256" if one.alg == SHA256_PREFIX else one.alg


def _nothing_listed(artifact: Artifact, display: str, *, short: bool) -> list[Problem]:
    how, remote = artifact.recorded_how, source_of(artifact)["type"] != "local"
    if how == "signature" and "signature" in artifact.claims:
        return []  # who signed it vouches for it, and whether that is so is asked elsewhere
    trusted = how == "trust-on-first-use"
    if not trusted and not remote:
        message = f"The entry of {display} does not say who vouches for the file."
    elif trusted:
        message = f"{display} was trusted on first use: it is the file that was recorded, nobody published its hash."
    else:
        why = "only a few digits, which are a number and no hash" if short else "no hash"
        message = f"The entry of {display} lists {why} from where the file was published."
    return [
        Problem(
            rule="no-hash-listed",
            message=message,
            remedy="Look for a SHA-256 where the file is published (the Hub shows it on the file's page) and record it "
            "with: pytest-backdoor lock update PATH --published-hash sha256:VALUE",
            path=display,
            fails=remote and not trusted,
        )
    ]


def _transport_problems(artifact: Artifact, display: str, hub_endpoint: str, *, local_server: bool) -> list[Problem]:
    source = source_of(artifact)
    url = hub_endpoint if source["type"] == "hf" else source.get("url", "")
    reason = unprotected(url, local_server=local_server) if url else None
    if reason is None:
        return []
    return [
        Problem(
            rule="plain-http",
            message=f"{display} {reason} ({url}).",
            remedy="Use an https address of the publisher.",
            path=display,
        )
    ]


def _revision_problems(artifact: Artifact, display: str) -> list[Problem]:
    # A name in the lock file is what is fetched, whatever the source says beside it.
    sources = [source for source in (name_source(artifact.path), source_of(artifact)) if source is not None]
    loose = next((revision for revision in map(unpinned, sources) if revision is not None), None)
    if loose is None:
        return []
    return [
        Problem(
            rule="unpinned-revision",
            message=f"The source of {display} names the revision {loose!r}, which is no full commit and may change.",
            remedy="Name the commit by its 40 hexadecimal digits in lower case.",
            path=display,
        )
    ]


def _collisions(artifact: Artifact, lock: Lock, display: str) -> list[Problem]:
    source = source_of(artifact)
    shared = cache_name(source)
    if shared is None:
        return []
    problems = []
    for other in lock.artifacts:
        theirs = source_of(other)
        same_place = theirs["type"] == source["type"] and clash_key(cache_name(theirs) or "") == clash_key(shared)
        # Mirrors of one file may share a name: whichever is loaded, it is the same.
        if other.path != artifact.path and same_place and other.sha256 != artifact.sha256:
            problems.append(
                Problem(
                    rule="source-collision",
                    message=f"{display} ({source['url']}) and {other.path} ({theirs['url']}) are different files that "
                    f"are both kept as {shared!r}, so one is loaded in place of the other.",
                    remedy="Give one of them another file name where it is fetched, and name that in its source as "
                    "file-name.",
                    path=display,
                )
            )
    return problems
