"""What is wrong with a file in a format that is never opened here."""

from __future__ import annotations

import re

from pytest_backdoor.findings import Problem

from ._archive import BadArchiveError, judge_archive, read_directory
from ._problems import Problems, inspected

NPY = b"\x93NUMPY"
LONGEST_NPY_HEADER = 1 << 16
OBJECTS = re.compile(rb"""['"][|<>=]?O\d*['"]""")
IN_PLACE_OF_THE_MODEL = {
    "empty": "is an empty file",
    "html": "is an HTML page, perhaps of an error or a login",
    "lfs-pointer": "is a Git LFS pointer, not the model itself",
    "text": "is a text file",
}
PROGRAMS = {
    "torchscript": "is a TorchScript archive, which is a program",
    "keras": "is a Keras archive, whose layers can be programs",
}


def inspect_other(content: bytes, display: str, kind: str | None) -> list[Problem]:
    """The problem of a file that ``sniff_stream`` says is of ``kind``, one that cannot be audited.

    Programs and arrays of objects are ``unsafe-serialisation``, pages and pointers ``lfs-pointer-or-error-page``,
    everything else ``unknown-format``.
    """

    def look(content: bytes, problems: Problems) -> None:
        if kind in PROGRAMS:
            problems.add("unsafe-serialisation", PROGRAMS[kind])
        elif kind in IN_PLACE_OF_THE_MODEL:
            problems.add("lfs-pointer-or-error-page", IN_PLACE_OF_THE_MODEL[kind])
        elif (kind == "npy" and _holds_objects(content)) or (
            kind == "npz" and _archive_holds_objects(content, problems)
        ):
            problems.add("unsafe-serialisation", "holds arrays of Python objects, which are pickles")
        else:
            problems.add("unknown-format", "is in no format that can be audited" if kind is None else _sentence(kind))

    return inspected(look, content, display)


def _sentence(kind: str) -> str:
    return f"is in a format that cannot be audited ({kind})"


def _holds_objects(content: bytes | memoryview) -> bool:
    return OBJECTS.search(bytes(content[:LONGEST_NPY_HEADER]).partition(b"}")[0]) is not None


def _archive_holds_objects(content: bytes, problems: Problems) -> bool:
    try:
        directory = read_directory(lambda offset, length: content[offset : offset + length], len(content))
    except BadArchiveError as error:
        problems.add("ambiguous-archive", str(error))
        return False
    return any(_holds_objects(data) for data in judge_archive(content, directory, problems).values())
