"""Hashes that somebody published: which algorithms count, how they are written, and computing them."""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import BinaryIO

from pytest_backdoor.errors import LockError
from pytest_backdoor.models._files import SubjectFile
from pytest_backdoor.models._format import open_regular

SHA256_PREFIX = "sha256-prefix"
# Hexadecimal digits of each algorithm. It is always named, never guessed from the length: 40 digits may be the SHA-1
# of a file or of a git blob, 32 an MD5 or an ETag.
DIGITS = {
    "sha256": 64,
    "sha384": 96,
    "sha512": 128,
    "blake2b": 128,
    "sha1": 40,
    "md5": 32,
    "git-blob-sha1": 40,
}
ALGORITHMS = (*DIGITS, SHA256_PREFIX)
STRONG = frozenset({"sha256", "sha384", "sha512", "blake2b"})
MIN_PREFIX = 8  # what torch.hub's file names hold; anything shorter is no hash but a number in a name
CHUNK_BYTES = 1 << 20
NAME_HASH = re.compile(r"([-_])([0-9A-Fa-f]*)\.")

Digests = Callable[[str], str]


def hash_problem(alg: str, value: str) -> str | None:
    """Why ``value`` is no hash of the algorithm ``alg`` as a lock file writes it; None if it is one."""
    if alg == SHA256_PREFIX:
        fits = re.fullmatch(r"[0-9a-f]{1,64}", value)
        return None if fits else "is not 1 to 64 lower-case hexadecimal digits"
    fits = re.fullmatch(rf"[0-9a-f]{{{DIGITS[alg]}}}", value)
    return None if fits else f"is not {DIGITS[alg]} lower-case hexadecimal digits"


def normalised_hash(alg: str, text: str) -> str:
    """A published hash in the form of the lock file: upper case and a prefix such as ``sha256:`` are taken off.

    Raises LockError for everything else: base64, white space, line ends, digits that are not ASCII, a wrong length.
    """
    if alg not in ALGORITHMS:
        raise LockError(f"There is no hash algorithm {alg!r}; name one of {', '.join(ALGORITHMS)}.")
    label = f"{alg.removesuffix('-prefix')}:"
    digits = text[len(label) :] if text.lower().startswith(label) else text
    value = digits.lower()
    problem = hash_problem(alg, value)
    if problem:
        raise LockError(f"The published {alg} {text!r} {problem}; copy it again from where it is published.")
    return value


def is_strong(alg: str, value: str) -> bool:
    """Whether a hash identifies a file: nobody can make another file that has it."""
    return alg in STRONG or (alg == SHA256_PREFIX and len(value) == DIGITS["sha256"])


def is_too_short(alg: str, value: str) -> bool:
    """Whether a prefix is so short that it counts as no hash at all."""
    return alg == SHA256_PREFIX and len(value) < MIN_PREFIX


def hash_matches(alg: str, value: str, digests: Digests) -> bool:
    """Whether the content whose digests these are has the published hash."""
    if alg == SHA256_PREFIX:
        return digests("sha256").startswith(value)
    return digests(alg) == value


def name_hash(name: str) -> str | None:
    """The start of a SHA-256 that torch.hub's convention puts into a file name, lower case; None if there is none.

    ``resnet18-f37072fd.pth`` and, as some names of torchvision are written, ``resnet18_fbgemm_16fa66dd.pth``. A number
    (``wide-50.pth``) is no hash, and a name in which torch.hub would look at another place (``m-.x-deadbeef.pth``) has
    none that anybody compares.
    """
    found = NAME_HASH.findall(name)
    marked = [digits for mark, digits in found if mark == "-"] or [digits for _, digits in found]
    if len(marked) != 1 or not MIN_PREFIX <= len(marked[0]) <= DIGITS["sha256"]:
        return None
    return str(marked[0]).lower()


def content_digests(content: bytes, sha256: str | None = None) -> Digests:
    """The digests of these bytes, each computed when it is first asked for; ``sha256``: as for ``file_digests``."""
    return _Digests(lambda: nullcontext(io.BytesIO(content)), sha256)


def subject_digests(file: SubjectFile) -> Digests:
    """The digests of a file of a model, of the bytes that were read where they were kept."""
    return file_digests(file.path, file.sha256) if file.data is None else content_digests(file.data, file.sha256)


def file_digests(path: Path, sha256: str | None = None) -> Digests:
    """The digests of a file, each computed when it is first asked for; the call raises ModelError if it cannot be read.

    ``sha256``: that digest where it was computed already. Every other algorithm reads the file again: for commands of a
    person, not for what opens the model afterwards.
    """
    return _Digests(lambda: open_regular(path), sha256)


class _Digests:
    def __init__(self, opened: Callable[[], AbstractContextManager[BinaryIO]], sha256: str | None = None) -> None:
        self._opened = opened
        self._known: dict[str, str] = {"sha256": sha256} if sha256 else {}

    def __call__(self, alg: str) -> str:
        if alg not in self._known:
            with self._opened() as stream:
                self._known[alg] = _digest(stream, alg)
        return self._known[alg]


def _digest(stream: BinaryIO, alg: str) -> str:
    if alg == "git-blob-sha1":
        digest = hashlib.new("sha1", usedforsecurity=False)
        size = stream.seek(0, os.SEEK_END)
        stream.seek(0)
        digest.update(b"blob %d\0" % size)
    else:
        digest = hashlib.new(alg, usedforsecurity=False)
    while chunk := stream.read(CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()
