"""The rules that a model file and its entry in the lock file must keep; every problem names the one it breaks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One thing that must hold of a file before it is trusted.

    ``title``: what is wrong where it is broken, as a heading. ``broken_where``: when that is so, as a clause in
    Markdown. ``excusable``: whether an entry of the lock file may allow it, with a reason and a date. ``refuses``:
    whether a file that breaks it is not opened at all.
    """

    name: str
    title: str
    broken_where: str
    excusable: bool = False
    refuses: bool = False


def _table(*rules: Rule) -> Mapping[str, Rule]:
    return MappingProxyType({rule.name: rule for rule in rules})


RULES = _table(
    # Whether it is the file that was published, and from where.
    Rule(
        name="no-hash-listed",
        title="Nobody published a hash of this file",
        broken_where="a model from elsewhere has no published hash (less than 8 digits count as none) and no "
        "signature vouches for it; a note where it was trusted on first use or there is no lock file",
        excusable=True,
    ),
    Rule(
        name="hash-mismatch",
        title="The content differs from a hash that is listed for it",
        broken_where="a file does not have a hash that is listed for it: in the lock file, by its publisher, on the "
        "Hub, or as the checksum of external data in the model itself",
    ),
    Rule(
        name="weak-or-short-hash",
        title="The published hash does not identify the file",
        broken_where="the published hashes are MD5, SHA-1, git's SHA-1 or less than 64 digits of a SHA-256 only",
        excusable=True,
    ),
    Rule(
        name="plain-http",
        title="The file is fetched without protection on the way",
        broken_where="the source is `http://`, `ftp://` or a bare IP address, or `HF_ENDPOINT` is, for a model from "
        "the Hub",
        excusable=True,
    ),
    Rule(
        name="unpinned-revision",
        title="The source may change under its name",
        broken_where="a revision of the Hub is no full commit, in the scanned name, the entry or a URL such as "
        "`/resolve/main/`",
        excusable=True,
    ),
    Rule(
        name="source-collision",
        title="Two sources share one name",
        broken_where="two different models are kept under one name in the cache of torch.hub or Keras",
    ),
    Rule(
        name="unlocked-file",
        title="The lock file does not list this model",
        broken_where="the lock file does not list the model, or one of its files",
    ),
    Rule(
        name="missing-file",
        title="A listed file is gone",
        broken_where="a listed file is gone, or external data that the model needs",
    ),
    Rule(
        name="format-changed",
        title="The file has another format than listed",
        broken_where="the file has another format than listed",
    ),
    Rule(
        name="exception-expired",
        title="The date of an exception has passed",
        broken_where="the last day of an exception has passed",
    ),
    Rule(
        name="signature-missing",
        title="A required signature is not there",
        broken_where="an entry requires a signature and it is not there",
    ),
    Rule(
        name="signature-not-verified",
        title="A signature could not be verified",
        broken_where="a signature is damaged, of other content, not to be verified offline, or the extra `signing` is "
        "not installed",
    ),
    Rule(
        name="signature-wrong-identity",
        title="Somebody else signed the model",
        broken_where="somebody else signed than the entry names",
    ),
    # Whether it is safe to open.
    Rule(
        name="lfs-pointer-or-error-page",
        title="This is not the model but something in its place",
        broken_where="a Git LFS pointer, an HTML page, text or an empty file lies in the place of the model",
        refuses=True,
    ),
    Rule(
        name="unknown-format",
        title="The content is in no format that can be audited",
        broken_where="the content is in no format that can be audited, whatever the file is called",
        refuses=True,
    ),
    Rule(
        name="unsafe-serialisation",
        title="Opening the file would run code",
        broken_where="opening the file would run code: a pickle with any name that is not on torch's weights-only "
        "list, TorchScript, Keras archives, arrays of objects",
        refuses=True,
    ),
    Rule(
        name="ambiguous-archive",
        title="Readers of this archive disagree on what it holds",
        broken_where="readers disagree on what an archive holds: duplicate names, headers that differ, encryption, "
        "bytes before it, paths that lead out of it, archives in archives",
        refuses=True,
    ),
    Rule(
        name="archive-too-large",
        title="The archive is much larger than it looks",
        broken_where="an archive unpacks to far more than it looks",
        refuses=True,
    ),
    Rule(
        name="too-large",
        title="The file is too large to be looked into",
        broken_where="there is more content than may be kept to look into",
        refuses=True,
    ),
    Rule(
        name="malformed-file",
        title="The file is damaged or was made to confuse its readers",
        broken_where="the file is damaged, cut short, has trailing bytes, or was made to confuse its readers",
        refuses=True,
    ),
    Rule(
        name="inconsistent-tensors",
        title="Sizes of tensors and of their data do not agree",
        broken_where="shapes, data and storages do not agree, or a tensor claims more elements than it has bytes for",
        refuses=True,
    ),
    Rule(
        name="external-data-outside",
        title="The model reads files that are not its own",
        broken_where="external data are named with an absolute path, `..`, a backslash, a control character or two "
        "names, or lie behind a link that leads out of the model's folder",
        refuses=True,
    ),
    Rule(
        name="unsafe-path",
        title="The path leads to something other than a plain file of its own",
        broken_where="the file leads out of the project, or external data are no plain file of their own: a device, a "
        "hard link",
        refuses=True,
    ),
    Rule(
        name="custom-operators",
        title="The model needs code that is not part of ONNX",
        broken_where="operators that are neither ONNX's nor built into ONNX Runtime",
        excusable=True,
    ),
    Rule(
        name="unsupported-version",
        title="The file is written for a version that is not known",
        broken_where="an operator set, IR version or pickle protocol that is not known",
        refuses=True,
    ),
    Rule(
        name="not-finite-weights",
        title="Weights are infinite or not a number",
        broken_where="weights are infinite or not a number; a single infinite number (a bound) and a tensor of zeros "
        "and -infinity alone (a mask of attention) do not count",
        excusable=True,
    ),
)
