"""What an entry of a lock file may say about its model's origin: the tables beside path, size and SHA-256."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Any
from urllib.parse import urlsplit

from pytest_backdoor.models.hub import parse_hub_name
from pytest_backdoor.rules import RULES

from ._digests import ALGORITHMS, SHA256_PREFIX, hash_problem
from ._names import name_problem
from ._tables import InvalidLockError, check_table, one_of

RECORDED_HOW = ("trust-on-first-use", "upstream-match", "signature")
# Keys of each type of source; those that start with "?" may be left out.
SOURCES = {
    "local": ("?reason",),
    "hf": ("repo", "file", "revision", "?requested"),
    "url": ("url",),
    "torch-hub": ("url", "?file-name", "?name-hash"),
    "keras": ("url", "?file-name", "?file_hash", "?alg"),
    "caffe": ("readme", "?url", "?sha1"),
    "dvc": ("file", "?md5"),
}
# The algorithm of each hash that a source itself may hold; Keras names its own.
SOURCE_HASHES = {"name-hash": SHA256_PREFIX, "sha1": "sha1", "md5": "md5"}
UPSTREAM = {"alg": str, "value": str, "from": str}
UPSTREAM_FROM = ("hf-lfs", "hf-git-blob", "filename-prefix", "readme-yaml", "sha256sums", "dvc", "publisher")
RECORDED = {"how": str, "tool": str}
SIGNATURE = {
    "method": str,
    "bundle": str,
    "key": str,
    "key-sha256": str,
    "chain": list,
    "identity": str,
    "issuer": str,
    "trust-config": str,
}
SIGNATURE_METHODS = {
    "key": ("bundle", "key", "?key-sha256"),
    "certificate": ("bundle", "chain", "?identity", "?issuer", "?key-sha256"),
    "sigstore": ("bundle", "identity", "issuer", "?trust-config"),
}
SIGNATURE_PATHS = ("bundle", "key", "trust-config")
ALLOW = {"rule": str, "reason": str, "until": str}
SCHEMES = ("https", "http", "ftp", "ftps", "s3", "gs")
URL = re.compile(r"([a-z0-9+.-]+)://[^/?#\s]+([/?#][!-~]*)?", re.IGNORECASE)
REPO = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


def check_claims(artifact: Mapping[str, Any], where: str) -> None:
    """Check what an entry says about origin, hashes, signature and exceptions; raises InvalidLockError."""
    if "source" in artifact:
        check_source(artifact["source"], f"'source' of {where}")
        _check_hub_name(artifact["path"], artifact["source"], f"'source' of {where}")
    if "upstream" in artifact:
        _check_upstream(artifact["upstream"], f"'upstream' of {where}")
    if "signature" in artifact:
        check_signature(artifact["signature"], f"'signature' of {where}")
    allowed: set[str] = set()
    for entry in artifact.get("allow", []):
        check_exception(entry, f"'allow' of {where}")
        if entry["rule"] in allowed:
            raise InvalidLockError(f"'allow' of {where} names the rule {entry['rule']!r} twice")
        allowed.add(entry["rule"])
    if "recorded" in artifact:
        _check_recorded(artifact, f"'recorded' of {where}")


def check_source(source: Mapping[str, Any], where: str) -> None:
    """Check where an entry says that its model is from; raises InvalidLockError."""
    kind = source.get("type")
    if not isinstance(kind, str):
        raise InvalidLockError(f"{where} lacks the key 'type' or it is not a string")
    one_of(kind, SOURCES, f"'type' in {where}")
    _check_keys(source, ("type", *SOURCES[kind]), dict.fromkeys(source, str), where)
    for key, value in source.items():
        if not value or not value.isprintable() or value != value.strip():
            raise InvalidLockError(
                f"{key!r} in {where} is empty or holds white space at its ends or control characters"
            )
    if "url" in source:
        _check_url(source["url"], where)
    if kind == "hf" and not REPO.fullmatch(source["repo"]):
        raise InvalidLockError(f"'repo' in {where} is not of the form owner/name")
    for key in ("file", "readme", "file-name"):
        problem = name_problem(source[key]) if key in source else None
        if problem:
            raise InvalidLockError(f"{key!r} in {where} {problem}")
    _check_source_hashes(source, where)


def _check_hub_name(path: str, source: Mapping[str, str], where: str) -> None:
    """Check that the source of an ``hf://`` name is what the name says, or it could hide what is really fetched."""
    name = parse_hub_name(path)
    if name is None:
        return
    if source["type"] != "hf" or (source["repo"], source["file"]) != (name.repo, name.file):
        raise InvalidLockError(f"{where} is another repository or file than the entry's name")


def _check_source_hashes(source: Mapping[str, str], where: str) -> None:
    for key, alg in SOURCE_HASHES.items():
        if key in source:
            _check_hash(alg, source[key], f"{key!r} in {where}")
    if ("file_hash" in source) != ("alg" in source):
        raise InvalidLockError(f"{where} has one of 'file_hash' and 'alg' only; the algorithm is never guessed")
    if "alg" in source:
        one_of(source["alg"], ALGORITHMS, f"'alg' in {where}")
        _check_hash(source["alg"], source["file_hash"], f"'file_hash' in {where}")


def _check_url(url: str, where: str) -> None:
    match = URL.fullmatch(url) if url.isascii() else None
    if match is None or match[1].lower() not in SCHEMES:
        raise InvalidLockError(f"'url' in {where} is not an address of one of {', '.join(SCHEMES)} in plain ASCII")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidLockError(f"'url' in {where} has no valid host ({error})") from error
    if not host:
        raise InvalidLockError(f"'url' in {where} has no host")
    if "@" in parts.netloc:
        raise InvalidLockError(f"'url' in {where} holds a user name or password, which must not stand in a lock file")


def _check_upstream(upstream: Mapping[str, Any], where: str) -> None:
    check_table(upstream, UPSTREAM, where, required=UPSTREAM)
    one_of(upstream["alg"], ALGORITHMS, f"'alg' in {where}")
    one_of(upstream["from"], UPSTREAM_FROM, f"'from' in {where}")
    _check_hash(upstream["alg"], upstream["value"], f"'value' in {where}")


def _check_hash(alg: str, value: str, where: str) -> None:
    problem = hash_problem(alg, value)
    if problem:
        raise InvalidLockError(f"{where} {problem}")


def _check_recorded(artifact: Mapping[str, Any], where: str) -> None:
    """Check how an entry says it was recorded; what vouched for the file then must still stand there."""
    check_table(artifact["recorded"], RECORDED, where, required=("how",))
    how = artifact["recorded"]["how"]
    one_of(how, RECORDED_HOW, f"'how' in {where}")
    if how == "upstream-match" and "upstream" not in artifact:
        raise InvalidLockError(f"'how' in {where} is {how!r}, but the entry has no 'upstream' any more")
    if how == "signature" and "signature" not in artifact:
        raise InvalidLockError(f"'how' in {where} is {how!r}, but the entry has no 'signature' any more")


def check_signature(signature: Mapping[str, Any], where: str) -> None:
    """Check which signature an entry requires; raises InvalidLockError."""
    check_table(signature, SIGNATURE, where, required=("method",))
    method = signature["method"]
    one_of(method, SIGNATURE_METHODS, f"'method' in {where}")
    _check_keys(signature, ("method", *SIGNATURE_METHODS[method]), SIGNATURE, where)
    chain = signature.get("chain", ["-"])
    if not chain or any(not isinstance(path, str) for path in chain):
        raise InvalidLockError(f"'chain' in {where} is not an array of at least one path")
    paths = [signature[key] for key in SIGNATURE_PATHS if key in signature] + signature.get("chain", [])
    for path in paths:
        problem = name_problem(path)
        if problem:
            raise InvalidLockError(f"the path {path!r} in {where} {problem}")
    for key in ("identity", "issuer"):
        if key in signature and not signature[key].strip():
            raise InvalidLockError(f"{key!r} in {where} is empty")
    if "key-sha256" in signature:
        _check_hash("sha256", signature["key-sha256"], f"'key-sha256' in {where}")


def check_exception(entry: Mapping[str, Any], where: str) -> None:
    """Check a rule that an entry allows to be broken; raises InvalidLockError."""
    check_table(entry, ALLOW, where, required=ALLOW)
    excusable = [rule.name for rule in RULES.values() if rule.excusable]
    if entry["rule"] in RULES and entry["rule"] not in excusable:
        raise InvalidLockError(f"'rule' in {where} is {entry['rule']!r}, which cannot be allowed")
    one_of(entry["rule"], excusable, f"'rule' in {where}")
    if not entry["reason"].strip() or not entry["reason"].isprintable():
        raise InvalidLockError(f"'reason' in {where} is empty or holds control characters")
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", entry["until"]):
        raise InvalidLockError(f"'until' in {where} is not a date like 2027-01-31")
    try:
        date.fromisoformat(entry["until"])
    except ValueError as error:
        raise InvalidLockError(f"'until' in {where} is a date that does not exist") from error


def _check_keys(table: Mapping[str, Any], keys: tuple[str, ...], types: Mapping[str, type], where: str) -> None:
    """Check that the table has exactly these keys; those that start with "?" may be left out."""
    known = {key.removeprefix("?"): types.get(key.removeprefix("?"), str) for key in keys}
    check_table(table, known, where, required=[key for key in keys if not key.startswith("?")])
