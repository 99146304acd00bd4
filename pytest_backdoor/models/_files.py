"""Which files make up a model, where each may lie, their hashes, and opening them as one."""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO

from pytest_backdoor.errors import ModelError

from ._format import open_regular, sniff_stream

if TYPE_CHECKING:
    import onnx

CHUNK_BYTES = 1 << 20
MAX_PROTOBUF_BYTES = (1 << 31) - 1
DRIVE = re.compile(r"[A-Za-z]:")


class ExternalDataError(ModelError):
    """The model names external data that must not be opened; that is a finding of its own, not a broken file."""


@dataclass(frozen=True, kw_only=True)
class SubjectFile:
    """One file of a model.

    ``location``: how the model file names it, None for the model file itself. ``size``: None if there is no such file.
    ``sha256``: None if its content was not read yet. ``format``: what ``sniff_format`` says, of the model file only.
    ``malformed``: this is an ONNX file that cannot be parsed, so its external data are not known.
    """

    path: Path
    location: str | None = None
    size: int | None = None
    sha256: str | None = None
    format: str | None = None
    malformed: bool = False


def subject_files(path: Path, content: bytes | None = None) -> list[SubjectFile]:
    """The model file, then every external data file that any tensor of an ONNX model names, sorted.

    ``content``: the bytes of the model file where they were read already; they are then what is looked at. An ONNX
    file that cannot be parsed stands alone, with ``malformed`` set. Raises ModelError if the model file cannot be read,
    ExternalDataError if external data lie outside the model's folder or are not plain files of their own.
    """
    if content is None:
        with open_regular(path) as stream:
            kind = sniff_stream(stream)
            size = os.fstat(stream.fileno()).st_size
            if kind != "onnx" or size > MAX_PROTOBUF_BYTES:
                return [SubjectFile(path=path, size=size, format=kind, malformed=kind == "onnx")]
            content = b"".join(_chunks(stream, path))
    else:
        kind = sniff_stream(io.BytesIO(content))
    # The bytes that are hashed are the bytes that are parsed: nobody can swap the file in between.
    sha256, size = hashlib.sha256(content).hexdigest(), len(content)
    locations = _locations(path, content) if kind == "onnx" else set()
    model = SubjectFile(path=path, size=size, sha256=sha256, format=kind, malformed=locations is None)
    return [model, *(_external(path, location) for location in sorted(locations or ()))]


def self_contained(path: Path, content: bytes) -> bytes:
    """The ONNX model ``content`` with its external data inside, so that whoever opens it opens no other file.

    ``path``: where it lies. ONNX Runtime alone would follow hard links and cut file names at a NUL. Content that names
    no other file is given back unchanged. Raises ModelError if external data are missing or too short or if the model
    cannot be parsed, ExternalDataError as ``subject_files`` does.
    """
    if b"location" not in content:  # the key of every file name; importing onnx to find none would be slow
        return content
    import onnx

    try:
        model = onnx.ModelProto.FromString(content)
        tensors = [tensor for tensor in _tensors(model) if tensor.data_location == onnx.TensorProto.EXTERNAL]
        places = [(tensor, _location(path, tensor)) for tensor in tensors]
    except ModelError:
        raise
    except Exception as error:  # see _locations
        raise ModelError(f"{path} cannot be parsed as ONNX; fetch the file again or export it again.") from error
    if not places:
        return content
    files = {location: _external(path, location) for location in sorted({location for _, location in places})}
    total = len(content)
    for tensor, location in places:
        offset, length = _extent(path, tensor, files[location])
        total += length
        if total > MAX_PROTOBUF_BYTES:
            raise ModelError(f"{path} has more than 2 GiB of weights, which is too much to be audited.")
        with open_regular(files[location].path) as stream:
            stream.seek(offset)
            tensor.raw_data = stream.read(length)
        tensor.ClearField("external_data")
        tensor.ClearField("data_location")
    whole: bytes = model.SerializeToString()
    return whole


def _extent(path: Path, tensor: onnx.TensorProto, file: SubjectFile) -> tuple[int, int]:
    """Offset and length in bytes of a tensor's external data."""
    if file.size is None:
        raise ModelError(f"{file.path}, external data of {path}, does not exist; put it beside the model.")
    entries = {entry.key: entry.value for entry in tensor.external_data}
    try:
        offset = int(entries.get("offset") or 0)
        length = int(entries.get("length") or file.size - offset)
    except ValueError:
        offset, length = -1, 0
    if offset < 0 or length < 0 or offset + length > file.size:
        raise ModelError(
            f"{path} asks for data of its tensor {tensor.name!r} that {file.path} does not hold; fetch both files "
            "again or export the model again."
        )
    return offset, length


def hash_file(path: Path) -> tuple[str, int]:
    """SHA-256 and size of a regular file, read once.

    Raises ModelError if it cannot be read or is not a regular file, or if somebody writes to it meanwhile.
    """
    digest, size = hashlib.sha256(), 0
    with open_regular(path) as stream:
        for chunk in _chunks(stream, path):
            digest.update(chunk)
            size += len(chunk)
    return digest.hexdigest(), size


def _chunks(stream: BinaryIO, path: Path) -> Iterator[bytes]:
    before = os.fstat(stream.fileno())
    stream.seek(0)
    total = 0
    while chunk := stream.read(CHUNK_BYTES):
        total += len(chunk)
        yield chunk
    after = os.fstat(stream.fileno())
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or total != after.st_size:
        raise ModelError(f"{path} changed while it was read; stop what writes to it and try again.")


def _locations(path: Path, content: bytes) -> set[str] | None:
    """The distinct external data locations of an ONNX model; None if it cannot be parsed."""
    import onnx

    try:
        model = onnx.ModelProto.FromString(content)
    except Exception:  # DecodeError, or MemoryError for lengths that lie
        return None
    tensors = (tensor for tensor in _tensors(model) if tensor.data_location == onnx.TensorProto.EXTERNAL)
    try:
        return {_location(path, tensor) for tensor in tensors}
    except UnicodeDecodeError:  # protobuf may decode strings only when they are asked for
        return None


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor anywhere in the model.

    Goes through all fields instead of a list of places: attributes, subgraphs, functions, sparse tensors and training
    graphs all count, and so does what a later version of ONNX adds.
    """
    import onnx

    pending: list[Any] = [model]
    while pending:
        message = pending.pop()
        if isinstance(message, onnx.TensorProto):
            yield message
            continue
        for field, value in message.ListFields():
            if field.message_type is not None:
                pending.extend([value] if hasattr(value, "ListFields") else value)


def _location(path: Path, tensor: onnx.TensorProto) -> str:
    entries = [entry.value for entry in tensor.external_data if entry.key == "location"]
    if len(entries) != 1:
        raise ExternalDataError(
            f"{path} names {len(entries)} files for the external data of one tensor, so readers disagree on what to "
            "load; export the model again."
        )
    return _checked_location(path, entries[0])


def _checked_location(path: Path, location: str | bytes) -> str:
    if isinstance(location, bytes):  # protobuf hands out what is no UTF-8 undecoded
        location = location.decode("utf-8", "backslashreplace")
    parts = PurePosixPath(location).parts
    escapes = location.startswith("/") or DRIVE.match(location) or "\\" in location or ".." in parts
    # ORT takes this prefix for an address in its own memory.
    if not parts or escapes or not location.isprintable() or "_ORT_MEM_ADDR_" in location:
        raise ExternalDataError(
            f"{path} names the external data {location!r}, which is not a file below the model's folder; do not open "
            "this model, or export it again with its data beside it."
        )
    return PurePosixPath(location).as_posix()


def _external(model: Path, location: str) -> SubjectFile:
    path = model.parent / location
    real, blobs = Path(os.path.realpath(path)), _hub_blobs(model)
    in_cache = any(real.is_relative_to(folder) for folder in blobs)
    if not in_cache and not real.is_relative_to(os.path.realpath(model.parent)):
        raise ExternalDataError(
            f"{path}, external data of {model}, is or lies behind a link that leads out of the model's folder; replace "
            "the link by the file it should be."
        )
    try:
        state = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return SubjectFile(path=path, location=location)
    except OSError as error:
        raise ModelError(f"{path}, external data of {model}, cannot be read ({error}); check it.") from error
    if not stat.S_ISREG(state.st_mode):
        raise ExternalDataError(f"{path}, external data of {model}, is not a regular file; put the file in its place.")
    if state.st_nlink > 1 and not in_cache:
        raise ExternalDataError(
            f"{path}, external data of {model}, is a hard link to a file with another name too; replace it by a copy."
        )
    return SubjectFile(path=path, location=location, size=state.st_size)


def _hub_blobs(model: Path) -> list[Path]:
    """Where links beside ``model`` may lead if it is a file of a Hugging Face cache, else nowhere.

    Such a model is itself a link, from ``snapshots/`` into ``blobs/`` of its repository; newer caches link on from
    there into a store that all repositories share.
    """
    absolute = Path(os.path.abspath(model))
    snapshots = next((parent for parent in absolute.parents if parent.name == "snapshots"), None)
    if snapshots is None or not absolute.is_symlink():
        return []
    repository = snapshots.parent
    target = absolute.parent / os.readlink(absolute)
    if os.path.realpath(target.parent) != os.path.realpath(repository / "blobs"):
        return []
    folders = [repository / "blobs"]
    if repository.name.startswith("models--"):
        folders.append(repository.parent / "blobs")
    # A folder that is a link itself could lead anywhere.
    return [Path(os.path.realpath(folder)) for folder in folders if folder.is_dir() and not folder.is_symlink()]
