"""Which keys and values a lock file may hold; whatever is not listed here is an error, never ignored."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ._claims_schema import check_claims
from ._names import clash_key, name_problem
from ._tables import InvalidLockError, check_table, one_of

VERSION = "1"
FORMATS = ("onnx", "torch", "safetensors")
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


def _check_artifact(artifact: Any, where: str) -> None:
    check_table(artifact, ARTIFACT, where, required=("path", "size", "sha256", "format"))
    _check_file(artifact, where)
    where = f"artifact {artifact['path']!r}"
    one_of(artifact["format"], FORMATS, f"'format' of {where}")
    for file in artifact.get("external", []):
        check_table(file, FILE, f"'external' of {where}", required=FILE)
        _check_file(file, f"'external' of {where}")
    check_claims(artifact, where)


def _check_file(file: Mapping[str, Any], where: str) -> None:
    problem = name_problem(file["path"])
    if problem:
        raise InvalidLockError(f"the path {file['path']!r} of {where} {problem}")
    if file["size"] < 0:
        raise InvalidLockError(f"'size' of {file['path']!r} is negative")
    if not SHA256.fullmatch(file["sha256"]):
        raise InvalidLockError(f"'sha256' of {file['path']!r} is not 64 lower-case hexadecimal digits")


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
