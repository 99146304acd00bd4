"""Which keys and values a lock file may hold; whatever is not listed here is an error, never ignored."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ._names import clash_key, name_problem

VERSION = "1"
FORMATS = ("onnx", "torch", "safetensors")
RECORDED_HOW = ("trust-on-first-use", "upstream-match", "signature")
SHA256 = re.compile(r"[0-9a-f]{64}")

ROOT = {"lock-version": str, "policy": dict, "artifact": list}
POLICY = {"require-hashes": bool, "allow-http": bool, "require-pinned-revision": bool}
FILE = {"path": str, "size": int, "sha256": str}
ARTIFACT = FILE | {
    "format": str,
    "external": list,
    "source": dict,
    "upstream": dict,
    "recorded": dict,
    "signature": dict,
    "allow": list,
}
SOURCES = {
    "local": ("reason",),
    "hf": ("repo", "file", "revision", "requested"),
    "url": ("url",),
    "torch-hub": ("url", "name-hash"),
    "keras": ("url", "file_hash", "alg"),
    "caffe": ("readme", "url", "sha1"),
    "dvc": ("file", "md5"),
}
UPSTREAM = {"alg": str, "value": str, "from": str}
RECORDED = {"how": str, "tool": str}
SIGNATURE = {"method": str, "bundle": str, "identity": str, "issuer": str, "key-sha256": str}
ALLOW = {"rule": str, "reason": str, "until": str}
TYPE_NAMES = {str: "a string", int: "an integer", bool: "true or false", dict: "a table", list: "an array"}


class InvalidLockError(ValueError):
    """What is wrong with the content of a lock file, as a clause to put into a sentence."""


def check_lock(data: Mapping[str, Any]) -> None:
    """Check the whole content of a lock file; raises InvalidLockError at the first thing that is wrong."""
    version = data.get("lock-version")
    if version != VERSION:
        raise InvalidLockError(
            f"its lock-version is {version!r} and this version of pytest-backdoor reads {VERSION!r} only"
        )
    check_table(data, ROOT, "the file", required=("lock-version",))
    check_table(data.get("policy", {}), POLICY, "[policy]")
    artifacts = data.get("artifact", [])
    for number, artifact in enumerate(artifacts, start=1):
        _check_artifact(artifact, f"artifact {number}")
    _check_names(artifacts)


def check_table(table: Any, keys: Mapping[str, type], where: str, *, required: Iterable[str] = ()) -> None:
    """Check that ``table`` is a table with known keys and values of the right types, the required ones among them.

    Raises InvalidLockError at the first that is not.
    """
    if not isinstance(table, dict):
        raise InvalidLockError(f"{where} is not a table")
    for key, value in table.items():
        if key not in keys:
            raise InvalidLockError(f"{where} has the unknown key {key!r}{_suggestion(key, keys)}")
        if type(value) is not keys[key]:  # exact: true is an int to isinstance
            raise InvalidLockError(f"{key!r} of {where} is not {TYPE_NAMES[keys[key]]}")
    for key in required:
        if key not in table:
            raise InvalidLockError(f"{where} lacks the key {key!r}")


def _suggestion(key: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(key, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _one_of(value: str, choices: Iterable[str], where: str) -> None:
    if value not in choices:
        raise InvalidLockError(
            f"{where} is {value!r} instead of one of {', '.join(choices)}{_suggestion(value, choices)}"
        )


def _check_artifact(artifact: Any, where: str) -> None:
    check_table(artifact, ARTIFACT, where, required=("path", "size", "sha256", "format"))
    _check_file(artifact, where)
    where = f"artifact {artifact['path']!r}"
    _one_of(artifact["format"], FORMATS, f"'format' of {where}")
    for file in artifact.get("external", []):
        check_table(file, FILE, f"'external' of {where}", required=FILE)
        _check_file(file, f"'external' of {where}")
    _check_claims(artifact, where)


def _check_file(file: Mapping[str, Any], where: str) -> None:
    problem = name_problem(file["path"])
    if problem:
        raise InvalidLockError(f"the path {file['path']!r} of {where} {problem}")
    if file["size"] < 0:
        raise InvalidLockError(f"'size' of {file['path']!r} is negative")
    if not SHA256.fullmatch(file["sha256"]):
        raise InvalidLockError(f"'sha256' of {file['path']!r} is not 64 lower-case hexadecimal digits")


def _check_claims(artifact: Mapping[str, Any], where: str) -> None:
    """Check what an entry says about where the file is from and how it was recorded."""
    if "source" in artifact:
        source = artifact["source"]
        kind = source.get("type")
        if not isinstance(kind, str):
            raise InvalidLockError(f"'source' of {where} lacks the key 'type' or it is not a string")
        _one_of(kind, SOURCES, f"'type' in 'source' of {where}")
        check_table(source, dict.fromkeys(("type", *SOURCES[kind]), str), f"'source' of {where}")
    if "upstream" in artifact:
        check_table(artifact["upstream"], UPSTREAM, f"'upstream' of {where}", required=("alg", "value"))
    if "recorded" in artifact:
        check_table(artifact["recorded"], RECORDED, f"'recorded' of {where}", required=("how",))
        _one_of(artifact["recorded"]["how"], RECORDED_HOW, f"'how' in 'recorded' of {where}")
    if "signature" in artifact:
        check_table(artifact["signature"], SIGNATURE, f"'signature' of {where}", required=("method",))
    for entry in artifact.get("allow", []):
        check_table(entry, ALLOW, f"'allow' of {where}", required=("rule", "reason"))


def _check_names(artifacts: Iterable[Mapping[str, Any]]) -> None:
    """Check that no path is listed twice and that no two differ in nothing but letter case.

    Models may share external data, if their entries agree on what is in it.
    """
    seen: dict[str, Mapping[str, Any]] = {}
    for artifact in artifacts:
        earlier = seen.setdefault(clash_key(artifact["path"]), artifact)
        if earlier is not artifact:
            raise InvalidLockError(f"the paths {earlier['path']!r} and {artifact['path']!r} name the same file")
    for artifact in artifacts:
        own: set[str] = {clash_key(artifact["path"])}
        for file in artifact.get("external", []):
            key = clash_key(file["path"])
            earlier = seen.setdefault(key, file)
            if key in own or any(earlier[field] != file[field] for field in FILE):
                raise InvalidLockError(
                    f"{artifact['path']!r} lists the external file {file['path']!r}, which is listed before, not alike"
                    if key not in own
                    else f"{artifact['path']!r} lists the external file {file['path']!r} twice or as itself"
                )
            own.add(key)
