"""Which files make up a model; each is opened once, and its hash and its content are of the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from pytest_backdoor.findings import Problem

from ._external import ExternalDataError, beside, path_problems, read_external
from ._format import sniff_stream
from ._reading import read_file
from .inspection import Locations, external_locations

__all__ = ["ExternalDataError", "ModelFiles", "SubjectFile", "hash_file", "read_model", "subject_files"]

# What protobuf reads or writes at the most.
MAX_PROTOBUF_BYTES = (1 << 31) - 1


@dataclass(frozen=True, kw_only=True)
class SubjectFile:
    """One file of a model.

    ``location``: how the model file names it, None for the model file itself. ``size`` and ``sha256``: None if there
    is no such file. ``data``: its bytes, None if they were not kept. ``format``: what ``sniff_format`` says, of the
    model file only. ``malformed``: this is an ONNX file that cannot be parsed, so its external data are not known.
    """

    path: Path
    location: str | None = None
    size: int | None = None
    sha256: str | None = None
    data: bytes | None = None
    format: str | None = None
    malformed: bool = False


@dataclass(frozen=True, kw_only=True)
class ModelFiles:
    """A model as it was read.

    ``files``: the model file, then every external data file that any tensor of an ONNX model names and may name,
    sorted. ``problems``: what is wrong with where they lie and how they are called, and with files that were not read.
    """

    files: tuple[SubjectFile, ...]
    problems: tuple[Problem, ...] = ()

    @property
    def external(self) -> dict[str, bytes]:
        """The content of the external data by location, of those files that were kept."""
        return {file.location: file.data for file in self.files if file.location and file.data is not None}


def read_model(path: Path, display: str, *, keep: int = 0, root: Path | None = None) -> ModelFiles:
    """Read all files of the model at ``path``, each once.

    ``display``: its name in reports. ``keep``: how many bytes of content to keep, of all files together; 0: none is
    kept, all are hashed. What is larger is a problem then. ``root``: see ``path_problems``. Raises ModelError if the
    model file itself cannot be read.
    """
    whole = _read_model_file(path, keep)
    problems = path_problems(path, display, root)
    named = _locations(whole, display)
    if named is not None:
        problems += named.problems
    files = [_kept(replace(whole, malformed=named is None), keep)]
    left = keep - len(files[0].data or b"")
    for location in named.locations if named else ():
        try:
            content = read_external(path, location, display, keep=left)
        except ExternalDataError as error:
            problems.append(error.problem)
            continue
        file = SubjectFile(path=path.parent / location, location=location)
        if content is not None:
            file = replace(file, size=content.size, sha256=content.sha256, data=content.data)
        files.append(_kept(file, left))
        left -= len(files[-1].data or b"")
    problems += [problem for file in files for problem in _lacking(file, display, keep)]
    return ModelFiles(files=tuple(files), problems=tuple(problems))


def subject_files(path: Path) -> list[SubjectFile]:
    """The files of a model, hashed and without their content.

    Raises ModelError if the model file cannot be read, ExternalDataError if external data lie outside the model's
    folder, are not plain files of their own or are not named in a way that all readers understand alike.
    """
    read = read_model(path, str(path))
    for problem in read.problems:
        if problem.rule in ("external-data-outside", "unsafe-path"):
            raise ExternalDataError(problem)
    return list(read.files)


def hash_file(path: Path) -> tuple[str, int]:
    """SHA-256 and size of a regular file, read once. Raises ModelError as ``read_file`` does."""
    content = read_file(path, keep=-1)
    return content.sha256, content.size


def _read_model_file(path: Path, keep: int) -> SubjectFile:
    def judge(stream: BinaryIO, size: int) -> tuple[str | None, bool]:
        kind = sniff_stream(stream)
        return kind, kind == "onnx" and size <= MAX_PROTOBUF_BYTES  # to see which other files it names

    content = read_file(path, keep=keep or -1, judge=judge)
    return SubjectFile(path=path, size=content.size, sha256=content.sha256, data=content.data, format=content.kind)


def _locations(model: SubjectFile, display: str) -> Locations | None:
    """What an ONNX model names, nothing for other formats; None if that cannot be told."""
    if model.format != "onnx":
        return Locations()
    return None if model.data is None else external_locations(model.data, display)


def _kept(file: SubjectFile, keep: int) -> SubjectFile:
    return file if keep > 0 and file.data is not None and len(file.data) <= keep else replace(file, data=None)


def _lacking(file: SubjectFile, display: str, keep: int) -> Iterator[Problem]:
    """The problem of a file that is not there, or whose content was to be kept and was too large for it."""
    name = display if file.location is None else f"{beside(display, file.location)}, external data of {display},"
    if file.size is None:
        text, remedy = f"{name} does not exist.", "Put it beside the model."
        yield Problem(rule="missing-file", message=text, remedy=remedy, path=display)
    elif file.data is None and keep:
        text = f"{name} has {file.size} bytes, which is more than can be looked into: a scan keeps {keep} of all files."
        remedy = "Raise --backdoor-memory where that is less than 2 GiB; larger models cannot be audited."
        yield Problem(rule="too-large", message=text, remedy=remedy, path=display)
