"""From options to what a person says about a model."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..checks.provenance._claims_schema import SIGNATURE_PATHS, check_exception, check_signature
from ..checks.provenance._digests import normalised_hash
from ..checks.provenance._names import file_name
from ..checks.provenance._sources import parse_source
from ..checks.provenance._tables import InvalidLockError
from ..errors import SettingsError
from ..models._files import hash_file


def typed_source(arguments: argparse.Namespace) -> dict[str, Any] | None:
    """The source that was typed; raises LockError if it is none."""
    return parse_source(arguments.source) if arguments.source else None


def typed_upstream(arguments: argparse.Namespace) -> dict[str, str] | None:
    """The hash that was typed, in the form of the lock file; raises SettingsError or LockError if it is none."""
    typed = getattr(arguments, "published_hash", None)
    if not typed:
        return None
    alg, colon, value = typed.partition(":")
    if not colon:
        raise SettingsError(
            f"--published-hash {typed} does not name the algorithm; write, for example, sha256:{typed[:16]}..."
        )
    return {"alg": alg.lower(), "value": normalised_hash(alg.lower(), value), "from": "publisher"}


def typed_exceptions(arguments: argparse.Namespace) -> tuple[Mapping[str, str], ...]:
    """The exceptions that were typed; raises SettingsError if one lacks its reason or date or is not possible."""
    if not len(arguments.allow) == len(arguments.reason) == len(arguments.until):
        raise SettingsError("Each --allow RULE needs its own --reason TEXT and --until DATE.")
    entries = [
        {"rule": rule, "reason": reason, "until": until}
        for rule, reason, until in zip(arguments.allow, arguments.reason, arguments.until, strict=True)
    ]
    for entry in entries:
        try:
            check_exception(entry, "--allow")
        except InvalidLockError as error:
            raise SettingsError(f"The exception cannot be recorded: {error}.") from error
    return tuple(entries)


def typed_signature(arguments: argparse.Namespace, lock_path: Path) -> dict[str, Any] | None:
    """The signature that was typed, its paths as the lock file names them; raises SettingsError if it is not whole.

    The hash of a public key is recorded with its path, so that exchanging the key file is found.
    """
    if not arguments.signature:
        return None
    table: dict[str, Any] = {}
    for typed in arguments.signature:
        key, sign, value = typed.partition("=")
        if not sign or not value:
            raise SettingsError(f"--signature {typed} is not of the form KEY=VALUE.")
        if key in SIGNATURE_PATHS or key == "chain":
            value = file_name(Path(value), lock_path.parent)
        if key == "chain":
            table.setdefault("chain", []).append(value)
        elif key in table:
            raise SettingsError(f"--signature gives {key!r} twice.")
        else:
            table[key] = value
    try:
        check_signature(table, "--signature")
    except InvalidLockError as error:
        raise SettingsError(f"The signature cannot be recorded: {error}.") from error
    if table["method"] == "key":
        table.setdefault("key-sha256", hash_file(lock_path.parent / table["key"])[0])
    return table
