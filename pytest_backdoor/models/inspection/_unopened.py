"""What is wrong with a file in a format that is never opened here, which is most formats."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pytest_backdoor.findings import Problem

from ._archive import judge_archive
from ._problems import REMEDIES, Problems, inspected
from ._zip_directory import BadArchiveError, directory_of

LONGEST_NPY_HEADER = 1 << 16
OBJECTS = re.compile(rb"""['"][|<>=]?O\d*['"]""")


@dataclass(frozen=True, kw_only=True)
class Unopened:
    """Why a file is not opened.

    ``rule``: that it breaks. ``what``: how the sentence goes on that begins with the name of the file, without a full
    stop. ``remedy``: what to do, as sentences.
    """

    rule: str
    what: str
    remedy: str


def _in_its_place(what: str, remedy: str) -> Unopened:
    return Unopened(rule="lfs-pointer-or-error-page", what=what, remedy=remedy)


def _runs_code(what: str, remedy: str) -> Unopened:
    return Unopened(rule="unsafe-serialisation", what=what, remedy=remedy)


def _other(what: str, remedy: str) -> Unopened:
    return Unopened(rule="unknown-format", what=what, remedy=remedy)


UNKNOWN = _other(
    "is in no format that can be audited", "Give an ONNX model, or a state dict (.pt, .pth, .safetensors)."
)
OBJECT_ARRAYS = _runs_code("holds arrays of Python objects, which are pickles", REMEDIES["unsafe-serialisation"])
PACKED = ("gzip", "zlib", "bzip2", "xz", "zstd", "lz4", "7z", "rar", "tar", "zip")
# By what ``sniff_format`` calls the format.
UNOPENED: Mapping[str, Unopened] = MappingProxyType(
    {
        "empty": _in_its_place("is an empty file", "Fetch or export the model again."),
        "text": _in_its_place("is a text file, not a model", "Check the path or fetch the file again."),
        "html": _in_its_place(
            "is an HTML page, not a model: the download gave an error or a login page", "Fetch the file again."
        ),
        "lfs-pointer": _in_its_place("is a Git LFS pointer, not the model itself", "Run git lfs pull."),
        "torchscript": _runs_code(
            "is a TorchScript archive, a program that runs when it is opened",
            "Export the model to ONNX or save its state dict.",
        ),
        "keras": _runs_code(
            "is a Keras archive, whose layers can run code", "Export the model to ONNX, say with tf2onnx."
        ),
        "hdf5": _other(
            "is an HDF5 file (Keras), which cannot be opened here", "Export the model to ONNX, say with tf2onnx."
        ),
        "tflite": _other(
            "is a TensorFlow Lite model, which cannot be opened here", "Export the model to ONNX, say with tf2onnx."
        ),
        "npy": _other("is a NumPy array, not a model", "Export the model to ONNX."),
        "npz": _other("is an archive of NumPy arrays, not a model", "Export the model to ONNX."),
        "gguf": _other("is a GGUF file, which cannot be opened here", "Export the model to ONNX."),
        "ort": _other(
            "is in ONNX Runtime's own format, which cannot be opened here", "Give the ONNX model it was made from."
        ),
    }
    | {
        kind: _other(f"is compressed or packed ({kind})", "Unpack it and give the model file itself.")
        for kind in PACKED
    }
)


def unopened(kind: str | None) -> Unopened:
    """Why no file is opened of which ``sniff_format`` says that it is of ``kind``."""
    return UNOPENED.get(kind or "", UNKNOWN)


def inspect_unopened(content: bytes, display: str, kind: str | None) -> list[Problem]:
    """The problem of a file that ``sniff_format`` says is of ``kind``, one that cannot be audited.

    ``display``: its name in reports. Never raises for what the file holds.
    """

    def look(content: bytes, problems: Problems) -> None:
        objects = (kind == "npy" and _holds_objects(content)) or (
            kind == "npz" and _archive_holds_objects(content, problems)
        )
        found = OBJECT_ARRAYS if objects else unopened(kind)
        problems.add(found.rule, found.what, found.remedy)

    return inspected(look, content, display)


def _holds_objects(content: bytes | memoryview) -> bool:
    return OBJECTS.search(bytes(content[:LONGEST_NPY_HEADER]).partition(b"}")[0]) is not None


def _archive_holds_objects(content: bytes, problems: Problems) -> bool:
    try:
        directory = directory_of(content)
    except BadArchiveError as error:
        problems.add("ambiguous-archive", str(error))
        return False
    return any(_holds_objects(data) for data in judge_archive(content, directory, problems).values())
