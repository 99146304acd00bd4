"""Lists of hashes that publishers put beside their models, as far as ``lock import`` reads them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_backdoor.errors import LockError, ModelError
from pytest_backdoor.models._format import open_regular

from ._digests import SHA256_PREFIX, name_hash

KINDS = ("sha256sums", "dvc", "caffe", "name")
MAX_BYTES = 1_000_000


@dataclass(frozen=True, kw_only=True)
class PublishedFile:
    """One file of such a list.

    ``file``: its name, relative to the folder of the list. ``alg``, ``value``: its hash in the form of the lock file;
    None where the list names the file without one. ``came_from``: which kind of list. ``size``: in bytes, None if the
    list does not say. ``source``: keys of the entry's source, empty if the list does not say where the file is from.
    """

    file: str
    came_from: str
    alg: str | None = None
    value: str | None = None
    size: int | None = None
    source: Mapping[str, Any] = field(default_factory=dict)


def read_published(path: Path, *, kind: str | None = None, alg: str = "sha256") -> list[PublishedFile]:
    """The files that a list names: a checksum file, a ``.dvc`` file, a README in Caffe's style or a model's own name.

    ``kind``: one of ``KINDS``, told by name and content if not given. ``alg``: the algorithm of a checksum file whose
    lines do not name it. Raises LockError if anything in the list is wrong or it names nothing, ModelError if it
    cannot be read.
    """
    from ._sidecars import parse_caffe, parse_dvc
    from ._sums import parse_sums

    kind = kind or _kind(path)
    if kind == "name":
        return [_named(path)]
    with open_regular(path) as stream:
        content = stream.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise LockError(f"{path} is larger than {MAX_BYTES} bytes and no list of hashes; name the right file.")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise LockError(f"{path} is not UTF-8 text and no list of hashes; name the right file.") from error
    if kind == "dvc":
        return parse_dvc(text, path)
    return parse_caffe(text, path) if kind == "caffe" else parse_sums(text, path, alg)


def _kind(path: Path) -> str:
    from pytest_backdoor.models._format import sniff_stream

    from ._verify import lock_format

    if path.name.endswith(".dvc"):
        return "dvc"
    with open_regular(path) as stream:
        if lock_format(sniff_stream(stream)) is not None:
            return "name"
        stream.seek(0, io.SEEK_SET)
        head = stream.read(4)
    return "caffe" if head in (b"---\n", b"---\r") or path.suffix.lower() == ".md" else "sha256sums"


def _named(path: Path) -> PublishedFile:
    value = name_hash(path.name)
    if value is None:
        raise LockError(
            f"The name {path.name} holds no hash of at least 8 hexadecimal digits (as name-<hash>.pth does); record "
            "the file with: pytest-backdoor lock add"
        )
    if not path.exists():
        raise ModelError(f"{path} does not exist; check the name, or fetch the file first.")
    return PublishedFile(file=path.name, came_from="filename-prefix", alg=SHA256_PREFIX, value=value)
