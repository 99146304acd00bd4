"""Files that ``sha256sum`` and its relatives write."""

from __future__ import annotations

import re
from pathlib import Path

from pytest_backdoor.errors import LockError

from ._digests import normalised_hash
from ._published import PublishedFile

PLAIN = re.compile(r"(?P<digits>[0-9A-Fa-f]+) [ *](?P<name>.+)")
TAGGED = re.compile(r"(?P<alg>[A-Za-z0-9]+) \((?P<name>.+)\) = (?P<digits>[0-9A-Fa-f]+)")
TAGS = {
    "SHA256": "sha256",
    "SHA384": "sha384",
    "SHA512": "sha512",
    "BLAKE2b": "blake2b",
    "SHA1": "sha1",
    "MD5": "md5",
}
ESCAPES = {"\\\\": "\\", "\\n": "\n", "\\r": "\r"}


def parse_sums(text: str, path: Path, alg: str) -> list[PublishedFile]:
    """The files of a checksum file in any form of coreutils: text or binary mark, escaped names, BSD's tags.

    Unlike ``sha256sum --check`` without ``--strict``, one line that cannot be read is an error (LockError), and so is
    a file without lines. ``alg``: the algorithm of lines without a tag.
    """
    files: dict[str, PublishedFile] = {}
    for number, line in enumerate(text.removesuffix("\n").split("\n"), start=1):
        if line.startswith("#"):  # as coreutils does
            continue
        file = _file(line, alg, f"Line {number} of {path}")
        earlier = files.setdefault(file.file, file)
        if earlier != file:
            raise LockError(f"{path} lists {file.file!r} twice with different hashes; correct the list.")
    if not files:
        raise LockError(f"{path} lists no file; name the right list.")
    return list(files.values())


def _file(line: str, alg: str, where: str) -> PublishedFile:
    escaped = line.startswith("\\")
    body = line[1:] if escaped else line
    tagged, plain = TAGGED.fullmatch(body), PLAIN.fullmatch(body)
    match = tagged or plain
    if match is None or not line.isprintable():
        raise LockError(
            f"{where} is no line of a checksum file ({line[:80]!r}); correct the list or get it again. Lines must end "
            "in a line feed alone."
        )
    if tagged and tagged["alg"] not in TAGS:
        raise LockError(f"{where} names the algorithm {tagged['alg']}; known are {', '.join(TAGS)}.")
    alg = TAGS[tagged["alg"]] if tagged else alg
    try:
        value = normalised_hash(alg, match["digits"])
    except LockError as error:
        hint = "" if tagged else " If the list is of another algorithm, name that with --algorithm."
        raise LockError(f"{where}: {error}{hint}") from error
    name = _unescaped(match["name"], where) if escaped else match["name"]
    return PublishedFile(file=name.removeprefix("./"), came_from="sha256sums", alg=alg, value=value)


def _unescaped(name: str, where: str) -> str:
    if re.search(r"\\(?![\\nr])", re.sub(r"\\\\", "", name)):
        raise LockError(f"{where} has an escape in the file's name that is not known; get the list again.")
    return re.sub(r"\\[\\nr]", lambda match: ESCAPES[match[0]], name)
