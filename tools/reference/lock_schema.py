"""The JSON Schema of a lock file, from the tables that the code checks it by."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pytest_backdoor.checks.provenance import _claims_schema as claims
from pytest_backdoor.checks.provenance import _schema as lock
from pytest_backdoor.checks.provenance._digests import ALGORITHMS
from pytest_backdoor.rules import RULES

Schema = dict[str, Any]

TYPES = {str: "string", int: "integer", bool: "boolean", dict: "object", list: "array"}


def lock_schema() -> Schema:
    """The schema of a whole lock file, read as TOML."""
    root = _closed(lock.ROOT, required=["lock-version"])
    root["properties"] |= {
        "lock-version": {"const": lock.VERSION},
        "policy": _closed(lock.POLICY) | {"description": "What every entry must keep."},
        "artifact": {
            "type": "array",
            "description": "One entry for each model.",
            "items": {"$ref": "#/$defs/artifact"},
        },
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"models.lock, version {lock.VERSION}",
        **root,
        "$defs": {
            "artifact": _artifact(),
            "file": _file(lock.FILE, lock.FILE),
            "source": {
                "description": "Where the model is from.",
                "oneOf": [{"$ref": f"#/$defs/source-{kind}"} for kind in claims.SOURCES],
            },
            **{f"source-{kind}": _variant("type", kind, keys) for kind, keys in claims.SOURCES.items()},
            "upstream": _upstream(),
            "recorded": _recorded(),
            "signature": {
                "description": "The signature that the model must have.",
                "oneOf": [{"$ref": f"#/$defs/signature-{method}"} for method in claims.SIGNATURE_METHODS],
            },
            **{
                f"signature-{method}": _variant("method", method, keys)
                for method, keys in claims.SIGNATURE_METHODS.items()
            },
            "allow": _allow(),
        },
    }


def _artifact() -> Schema:
    schema = _file(lock.ARTIFACT, ("path", "size", "sha256", "format"))
    schema["properties"]["format"] = {"enum": list(lock.FORMATS), "description": "Told by content."}
    for name in ("source", "upstream", "recorded", "signature"):
        schema["properties"][name] = {"$ref": f"#/$defs/{name}"}
    for name, below in {"external": "file", "allow": "allow"}.items():
        schema["properties"][name] = {"type": "array", "items": {"$ref": f"#/$defs/{below}"}}
    return schema


def _file(keys: Mapping[str, type], required: Iterable[str]) -> Schema:
    schema = _closed(keys, required=required)
    schema["properties"] |= {
        "path": {"type": "string", "description": "Relative to the lock file's folder, with `/`, or an `hf://` name."},
        "size": {"type": "integer", "minimum": 0, "description": "Bytes."},
        "sha256": {"type": "string", "pattern": f"^{lock.SHA256.pattern}$", "description": "Of the whole file."},
    }
    return schema


def _upstream() -> Schema:
    schema = _closed(claims.UPSTREAM, required=claims.UPSTREAM)
    schema["properties"] |= {"alg": {"enum": list(ALGORITHMS)}, "from": {"enum": list(claims.UPSTREAM_FROM)}}
    return schema | {"description": "The hash that somebody else published."}


def _recorded() -> Schema:
    schema = _closed(claims.RECORDED, required=["how"])
    schema["properties"]["how"] = {"enum": list(claims.RECORDED_HOW), "description": "What vouched for the file."}
    return schema


def _allow() -> Schema:
    schema = _closed(claims.ALLOW, required=claims.ALLOW)
    schema["properties"]["rule"] = {"enum": [rule.name for rule in RULES.values() if rule.excusable]}
    schema["properties"]["until"] |= {"format": "date", "description": "The last day, such as 2027-01-31."}
    return schema | {"description": "A rule that may be broken, by this model, up to a day."}


def _variant(key: str, value: str, keys: Iterable[str]) -> Schema:
    """A table of the kind that ``key`` names; of its ``keys`` those with a "?" may be left out."""
    types = {name.removeprefix("?"): claims.SIGNATURE.get(name.removeprefix("?"), str) for name in keys}
    schema = _closed({key: str, **types}, required=[key, *(name for name in keys if not name.startswith("?"))])
    schema["properties"][key] = {"const": value}
    if "alg" in types:
        schema["properties"]["alg"] = {"enum": list(ALGORITHMS)}
    if "chain" in types:
        schema["properties"]["chain"] = {"type": "array", "items": {"type": "string"}, "minItems": 1}
    return schema


def _closed(keys: Mapping[str, type], *, required: Iterable[str] = ()) -> Schema:
    properties = {name: {"type": TYPES[kind]} for name, kind in keys.items()}
    return {"type": "object", "additionalProperties": False, "required": list(required), "properties": properties}
