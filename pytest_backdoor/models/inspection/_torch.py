"""Inspecting what torch.save writes: the archive of torch since 1.6, and the pickles with raw storages before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pytest_backdoor.findings import Problem

from ._archive import judge_archive
from ._finite import judge_finite, merged
from ._judge_pickle import judge_reading, judge_rest
from ._pickle import read_pickle
from ._pickle_state import PickleReading
from ._problems import Problems, inspected, shown
from ._tensors import TensorBuilder
from ._unopened import unopened
from ._values import Dictionary, Storage, Symbols
from ._zip_directory import END, BadArchiveError, directory_of

# torch/serialization.py, _legacy_save.
MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
PROTOCOL_VERSION = 1001
NEWEST_ARCHIVE = 10  # caffe2/serialize/versions.h, kMaxSupportedFileFormatVersion
NOTES = ("version", "byteorder", ".format_version", ".storage_alignment", ".data/serialization_id")
LONGEST_NOTE = 64
SCRIPT_PARTS = ("code/", "constants.pkl", ".data/ts_code", ".data/extern_modules", ".data/python_version")


def inspect_torch_zip(content: bytes, display: str) -> list[Problem]:
    """What is wrong with an archive of torch.save.

    ``content``: the whole file. ``display``: its name in reports. Never raises for what the file holds; takes memory of
    at most ``LARGEST_RATIO`` times the file and for the values of its pickle.
    """
    return inspected(_look_at_archive, content, display)


def inspect_pickle(content: bytes, display: str) -> list[Problem]:
    """What is wrong with a file that begins with a pickle; all but torch's legacy format is a problem."""
    return inspected(_look_at_pickles, content, display)


def is_script(name: str) -> bool:
    """Whether an archive with a member of this name, below the archive's folder, holds code for torch to run."""
    return name.startswith(SCRIPT_PARTS)


def _look_at_archive(content: bytes, problems: Problems) -> None:
    try:
        directory = directory_of(content)
    except BadArchiveError as error:
        whole = END in content[-(1 << 17) :]
        problems.add("ambiguous-archive" if whole else "malformed-file", str(error))
        return
    roots = {member.name.partition("/")[0] for member in directory.members}
    if any(is_script(member.name.partition("/")[2]) for member in directory.members):
        script = unopened("torchscript")
        problems.add(script.rule, script.what, script.remedy)
    members = judge_archive(content, directory, problems)
    if len(roots) != 1:
        problems.add("ambiguous-archive", "holds members in more than one folder, of which torch reads one")
    inner = {name.partition("/")[2]: data for name, data in members.items()}
    if problems.found:
        _look_for_code(inner, problems)
        return
    big_endian = _judge_notes(inner, problems)
    _judge_weights(inner, problems, big_endian=big_endian)


def _look_for_code(members: Mapping[str, memoryview], problems: Problems) -> None:
    """Say also which code the pickles of a bad archive name: this is the more urgent news."""
    for name, data in members.items():
        if name.endswith(".pkl"):
            judge_reading(read_pickle(bytes(data), 0, Symbols()), problems, f" in its member {shown(name)}")


def _judge_notes(members: Mapping[str, memoryview], problems: Problems) -> bool:
    """Judge the small members beside the weights; whether the storages are big-endian."""
    notes = {name: bytes(members[name][: LONGEST_NOTE + 1]) for name in NOTES if name in members}
    for name, note in notes.items():
        good = note in (b"little", b"big") if name == "byteorder" else note.removesuffix(b"\n").isdigit()
        if len(note) > LONGEST_NOTE or not good:
            problems.add("malformed-file", f"holds a member {name} that torch.save never writes")
    version = notes.get("version", b"").strip()
    if not version:
        problems.add("malformed-file", "is an archive without a version")
    elif version.isdigit() and int(version) > NEWEST_ARCHIVE:
        problems.add("unsupported-version", f"is an archive of version {shown(version)}, later than {NEWEST_ARCHIVE}")
    return notes.get("byteorder") == b"big"


def _judge_weights(members: Mapping[str, memoryview], problems: Problems, *, big_endian: bool) -> None:
    if "data.pkl" not in members:
        problems.add("malformed-file", "is an archive without a data.pkl")
        return
    pickle = bytes(members["data.pkl"])
    builder = TensorBuilder(problems, views=False)
    reading = read_pickle(pickle, 0, builder)
    judge_reading(reading, problems)
    if reading.broken is not None:
        return
    judge_rest(pickle, reading.end, problems)
    expected = {f"data/{key}" for key in builder.storages}
    for name in members.keys() - expected - {"data.pkl", *NOTES}:
        _judge_stray(name, members[name], problems)
    for key, storage in builder.storages.items():
        data = members.get(f"data/{key}")
        if data is None:
            problems.add("inconsistent-tensors", f"holds tensors whose data are missing: {shown(key)}")
        elif len(data) != storage.size:
            problems.add(
                "inconsistent-tensors",
                f"holds {len(data)} bytes for a storage of {storage.size} bytes: {shown(key)}",
            )
    if not problems.found:
        data_of = {key: members[f"data/{key}"] for key in builder.storages}
        _judge_finite(builder.storages.values(), data_of, problems, big_endian=big_endian)


def _judge_stray(name: str, data: memoryview, problems: Problems) -> None:
    """A member that no tensor uses: whatever reads it is not torch."""
    problems.add("ambiguous-archive", f"holds a member that torch does not read: {shown(name)}")
    if not name.startswith("data/"):
        reading = read_pickle(bytes(data), 0, Symbols())
        if reading.names and (reading.broken is None or name.endswith(".pkl")):
            judge_reading(reading, problems, f" in its member {shown(name)}")


def _look_at_pickles(content: bytes, problems: Problems) -> None:
    first = read_pickle(content, 0, Symbols())
    if first.broken is None and first.value == MAGIC_NUMBER and not first.names:
        _look_at_legacy(content, first, problems)
        return
    judge_reading(first, problems)
    if first.broken is None:
        judge_rest(content, first.end, problems)
    if not problems.found:
        problems.add("unknown-format", "is a pickle, but none that torch.save wrote")


def _look_at_legacy(content: bytes, magic: PickleReading, problems: Problems) -> None:
    """Five pickles (magic number, version, facts of the machine, object, keys of its storages), then the storages."""
    version = read_pickle(content, magic.end, Symbols())
    machine = read_pickle(content, version.end, Symbols())
    builder = TensorBuilder(problems, views=True)
    weights = read_pickle(content, machine.end, builder)
    keys = read_pickle(content, weights.end, Symbols())
    for reading in (magic, version, machine, weights, keys):
        judge_reading(reading, problems)
        if reading.broken is not None:
            return
    if version.value != PROTOCOL_VERSION:
        problems.add("unsupported-version", "is written for a version of torch's legacy format that is not known")
    if not isinstance(machine.value, Dictionary) or version.names or machine.names or keys.names:
        problems.add("malformed-file", "is in torch's legacy format, but its head is not what torch.save writes")
    if not problems.found:
        _judge_legacy_storages(content, keys, builder, problems)


def _judge_legacy_storages(content: bytes, keys: PickleReading, builder: TensorBuilder, problems: Problems) -> None:
    """Each storage in the order of the keys: its number of elements in 8 bytes, then the elements, little-endian."""
    listed = keys.value
    if not isinstance(listed, list) or not all(isinstance(key, str) for key in listed):
        problems.add("malformed-file", "does not list its storages")
        return
    if len(set(listed)) != len(listed) or set(listed) != builder.storages.keys():
        # What is not listed is not read: such a tensor would show whatever was in memory.
        problems.add("inconsistent-tensors", "lists other storages than its tensors use")
        return
    position, data_of = keys.end, {}
    for key in listed:
        storage = builder.storages[key]
        numel = int.from_bytes(content[position : position + 8], "little")
        if numel * storage.dtype.unit != storage.size or position + 8 + storage.size > len(content):
            problems.add("inconsistent-tensors", f"does not hold a storage of {storage.size} bytes: {shown(key)}")
            return
        data_of[key] = memoryview(content)[position + 8 :]
        position += 8 + storage.size
    judge_rest(content, position, problems)
    if not problems.found:
        storages = (*builder.storages.values(), *builder.parts.values())
        _judge_finite(storages, data_of, problems, big_endian=False)


def _judge_finite(
    storages: Iterable[Storage], data_of: Mapping[str, memoryview], problems: Problems, *, big_endian: bool
) -> None:
    """Look at what tensors use of each storage: the rest of a storage may hold anything and is never seen."""
    for storage in storages:
        data = data_of[(storage.whole or storage).key][storage.offset :]
        for dtype in dict.fromkeys(tensor.dtype for tensor in storage.used if tensor.dtype is not None):
            parts = ((tensor.start, tensor.stop, tensor.name) for tensor in storage.used if tensor.dtype is dtype)
            for start, stop, name in merged(parts):
                judge_finite(data[start:stop], dtype, name, problems, big_endian=big_endian)
