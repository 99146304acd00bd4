"""A Sigstore bundle, taken apart before any other library sees it: somebody else's JSON, of any size and depth.

The format is that of the OpenSSF model signing specification: a DSSE envelope around an in-toto statement whose
predicate lists every signed file with its digest.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, TypeVar

from ._errors import UnverifiedError

T = TypeVar("T")

MAX_BYTES = 16 << 20
MAX_DEPTH = 64
PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"
SIGNERS = frozenset({"publicKey", "certificate", "x509CertificateChain"})
MATERIAL = SIGNERS | {"tlogEntries", "timestampVerificationData"}
TOP = frozenset({"mediaType", "verificationMaterial", "dsseEnvelope"})
ENVELOPE = frozenset({"payload", "payloadType", "signatures"})
# Strings are passed over whole, also one without an end: whatever is in the file, every byte is looked at once.
_STRUCTURE = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """``material``: who signed, as the bundle says and nobody has verified. ``serialization``: how files were hashed.

    ``resources``: algorithm and hexadecimal digest of each signed file, by its path below the signed folder, in the
    order of the statement; the path is ``.`` where a single file was signed.
    """

    material: Mapping[str, Any]
    serialization: Mapping[str, Any]
    resources: Mapping[str, tuple[str, str]]

    def digest(self, path: str) -> str | None:
        """The signed SHA-256 of a file; None if it was not signed. Raises UnverifiedError if it is another hash."""
        if path not in self.resources:
            return None
        algorithm, value = self.resources[path]
        if algorithm != "sha256" or not _SHA256.fullmatch(value):
            raise UnverifiedError(
                f"it signs a digest of {algorithm}, not a SHA-256 of the whole file",
                "Ask the publisher to sign with: model_signing sign --hash_algorithm sha256",
            )
        return value


def read_bundle(content: bytes) -> Bundle:
    """Take a bundle apart. Raises UnverifiedError for whatever is not exactly as the specification has it."""
    values = read_json(content, "it")
    material = _member(values, "verificationMaterial", dict)
    envelope = _member(values, "dsseEnvelope", dict)
    for part, known in ((values, TOP), (material, MATERIAL), (envelope, ENVELOPE)):
        require_known(part, known)
    if len(SIGNERS & set(material)) != 1:
        raise UnverifiedError(f"it names its signer in {len(SIGNERS & set(material))} ways instead of one")
    if not _member(envelope, "signatures", list):
        raise UnverifiedError("it holds no signature", "Ask the publisher for the signed bundle.")
    if _member(envelope, "payloadType", str) != PAYLOAD_TYPE:
        raise UnverifiedError(f"what it signs is not of the type {PAYLOAD_TYPE}")
    try:
        payload = base64.b64decode(_member(envelope, "payload", str), validate=True)
    except (binascii.Error, ValueError):
        raise UnverifiedError("what it signs is not in base64") from None
    return _statement(read_json(payload, "the statement in it"), material)


def _statement(statement: Mapping[str, Any], material: Mapping[str, Any]) -> Bundle:
    if _member(statement, "_type", str) != STATEMENT_TYPE:
        raise UnverifiedError("the statement in it is no in-toto statement of version 1")
    if _member(statement, "predicateType", str) != PREDICATE_TYPE:
        raise UnverifiedError(
            f"the statement in it is not of the type {PREDICATE_TYPE}",
            "Ask the publisher to sign with model_signing 1.",
        )
    predicate = _member(statement, "predicate", dict)
    resources: dict[str, tuple[str, str]] = {}
    for resource in _member(predicate, "resources", list):
        if not isinstance(resource, dict):
            raise UnverifiedError("its list of files is not as it should be")
        name = file_key(_member(resource, "name", str))
        if name in resources:
            raise UnverifiedError(f"it lists the file {name!r} twice")
        resources[name] = (_member(resource, "algorithm", str), _member(resource, "digest", str))
    return Bundle(material=material, serialization=_member(predicate, "serialization", dict), resources=resources)


def file_key(name: str) -> str:
    """Equal for two spellings of one path."""
    return unicodedata.normalize("NFC", PurePosixPath(name).as_posix())


def read_json(content: bytes, what: str) -> Mapping[str, Any]:
    """A JSON object within bounds of size and depth and without repeated keys. Raises UnverifiedError."""
    if len(content) > MAX_BYTES:
        raise UnverifiedError(f"{what} is larger than {MAX_BYTES >> 20} MiB")
    if _depth(content) > MAX_DEPTH:
        raise UnverifiedError(f"{what} is nested more than {MAX_DEPTH} levels deep")
    try:
        values = json.loads(content.decode("utf-8"), object_pairs_hook=_without_repetition)
    except (ValueError, RecursionError) as error:
        if isinstance(error, _RepeatedKeyError):
            raise UnverifiedError(f"{what} holds the key {error.args[0]!r} twice") from None
        raise UnverifiedError(f"{what} is not JSON in UTF-8") from None
    if not isinstance(values, dict):
        raise UnverifiedError(f"{what} is not a JSON object")
    return values


class _RepeatedKeyError(ValueError):
    pass


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in pairs:
        if key in values:  # readers disagree on which of the two counts
            raise _RepeatedKeyError(key)
        values[key] = value
    return values


def _depth(content: bytes) -> int:
    deepest = depth = 0
    for match in _STRUCTURE.finditer(content):
        token = match[0]
        if token in (b"[", b"{"):
            depth += 1
            deepest = max(deepest, depth)
        elif token in (b"]", b"}"):
            depth -= 1
    return deepest


def require_known(values: Mapping[str, Any], known: Collection[str]) -> None:
    """Refuse other keys: a library that took another spelling of one would verify what nobody compared here."""
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise UnverifiedError(f"it holds the unknown key {unknown[0]!r}")


def _member(values: Mapping[str, Any], key: str, kind: type[T]) -> T:
    value = values.get(key)
    if not isinstance(value, kind):
        raise UnverifiedError(f"it lacks {key!r} or that is not as it should be")
    return value
