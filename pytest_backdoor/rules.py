"""The rules that a model file and its entry in the lock file must keep; every problem names the one it breaks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One thing that must hold of a file before it is trusted.

    ``title``: what is wrong where it is broken, as a heading. ``excusable``: whether an entry of the lock file may
    allow it, with a reason and a date. ``refuses``: whether a file that breaks it is not opened at all.
    """

    name: str
    title: str
    excusable: bool = False
    refuses: bool = False


def _table(*rules: Rule) -> Mapping[str, Rule]:
    return MappingProxyType({rule.name: rule for rule in rules})


RULES = _table(
    # Whether it is the file that was published, and from where.
    Rule(name="no-hash-listed", title="Nobody published a hash of this file", excusable=True),
    Rule(name="hash-mismatch", title="The content differs from a hash that is listed for it"),
    Rule(name="weak-or-short-hash", title="The published hash does not identify the file", excusable=True),
    Rule(name="plain-http", title="The file is fetched without protection on the way", excusable=True),
    Rule(name="unpinned-revision", title="The source may change under its name", excusable=True),
    Rule(name="source-collision", title="Two sources share one name"),
    Rule(name="unlocked-file", title="The lock file does not list this model"),
    Rule(name="missing-file", title="A listed file is gone"),
    Rule(name="format-changed", title="The file has another format than listed"),
    Rule(name="exception-expired", title="The date of an exception has passed"),
    Rule(name="signature-missing", title="A required signature is not there"),
    Rule(name="signature-not-verified", title="A signature could not be verified"),
    Rule(name="signature-wrong-identity", title="Somebody else signed the model"),
    # Whether it is safe to open.
    Rule(name="lfs-pointer-or-error-page", title="This is not the model but something in its place", refuses=True),
    Rule(name="unknown-format", title="The content is in no format that can be audited", refuses=True),
    Rule(name="unsafe-serialisation", title="Opening the file would run code", refuses=True),
    Rule(name="ambiguous-archive", title="Readers of this archive disagree on what it holds", refuses=True),
    Rule(name="archive-too-large", title="The archive is much larger than it looks", refuses=True),
    Rule(name="too-large", title="The file is too large to be looked into", refuses=True),
    Rule(name="malformed-file", title="The file is damaged or was made to confuse its readers", refuses=True),
    Rule(name="inconsistent-tensors", title="Sizes of tensors and of their data do not agree", refuses=True),
    Rule(name="external-data-outside", title="The model reads files that are not its own", refuses=True),
    Rule(name="unsafe-path", title="The path leads to something other than a plain file of its own", refuses=True),
    Rule(name="custom-operators", title="The model needs code that is not part of ONNX", excusable=True),
    Rule(name="unsupported-version", title="The file is written for a version that is not known", refuses=True),
    Rule(name="not-finite-weights", title="Weights are infinite or not a number", excusable=True),
)
