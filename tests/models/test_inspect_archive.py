"""Archives on which readers disagree are refused; those that torch writes pass."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zipfile

import pytest
from corpus.archives import CASES, GOOD
from corpus.pickles import archive, payload, pickled
from inspecting import name_of, problems_of, require_refused

from pytest_backdoor.models.inspection._archive import judge_archive
from pytest_backdoor.models.inspection._problems import Problems
from pytest_backdoor.models.inspection._torch import inspect_torch_zip
from pytest_backdoor.models.inspection._zip_directory import BadArchiveError, directory_of


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_bad_archives(tmp_path, case):
    require_refused(case, tmp_path)


def test_the_good_archive_passes():
    assert inspect_torch_zip(archive(GOOD), "m") == []


def test_the_checksum_alone_makes_the_difference(tmp_path):
    case = next(case for case in CASES if case.row == 9)
    problems = problems_of(case.write(tmp_path, tmp_path / "canary"))
    assert {problem.rule for problem in problems} >= {"ambiguous-archive", "unsafe-serialisation"}
    assert "builtins.open" in " ".join(problem.message for problem in problems)


def test_row_09_checksums_that_torch_left_out():
    """With set_crc32_options(False) torch writes 0 for all of them: that is no disagreement."""
    content = bytearray(archive(GOOD))
    for header, offset in ((b"PK\x01\x02", 16), (b"PK\x03\x04", 14)):
        position = -1
        while (position := content.find(header, position + 1)) >= 0:
            content[position + offset : position + offset + 4] = bytes(4)
    assert inspect_torch_zip(bytes(content), "m") == []


@pytest.mark.parametrize("flag", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_members_are_read_as_zipfile_reads_them(flag):
    stream = io.BytesIO()
    members = {"a/x": b"1" * 100, "a/y": bytes(range(256)), "a/empty": b""}
    with zipfile.ZipFile(stream, "w", flag) as file:
        for name, raw in members.items():
            file.writestr(name, raw)
    problems = Problems("m")
    found = judge_archive(stream.getvalue(), directory_of(stream.getvalue()), problems)
    assert {name: bytes(data) for name, data in found.items()} == members
    assert problems.listed() == []


class OneWay(io.RawIOBase):
    """A stream that cannot go back, for which zipfile writes sizes behind the data."""

    def __init__(self) -> None:
        self.written = b""

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        self.written += bytes(data)
        return len(data)


def test_sizes_behind_the_data():
    stream = OneWay()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr("a/x", b"123")
        with file.open("a/y", "w", force_zip64=True) as member:
            member.write(b"4567")
    problems = Problems("m")
    found = judge_archive(stream.written, directory_of(stream.written), problems)
    assert {name: bytes(data) for name, data in found.items()} == {"a/x": b"123", "a/y": b"4567"}
    assert problems.listed() == []
    changed = stream.written.replace(b"123PK\x07\x08", b"123PK\x07\x09")
    judge_archive(changed, directory_of(changed), problems)
    assert [problem.rule for problem in problems.listed()] == ["ambiguous-archive"]


def test_more_members_than_anyone_needs():
    content = b"PK\x05\x06" + struct.pack("<4HIIH", 0, 0, 65535, 65535, 0xFFFFFFFF, 0, 0)
    with pytest.raises(BadArchiveError):
        directory_of(content)
    claims = struct.pack("<QHHIIQQQQ", 44, 0, 0, 0, 0, 1 << 40, 1 << 40, 0, 0)
    content = b"PK\x06\x06" + claims + b"PK\x06\x07" + struct.pack("<IQI", 0, 0, 1) + content
    with pytest.raises(BadArchiveError, match="1099511627776 members"):
        directory_of(content)


def test_the_payload_of_these_archives_is_live(tmp_path):
    """What must not run would run, if anything let it: otherwise the canaries prove nothing."""
    canary = tmp_path / "canary"
    path = tmp_path / "data.pkl"
    path.write_bytes(pickled(payload(canary)))
    subprocess.run([sys.executable, "-c", f"import pickle; pickle.load(open({str(path)!r}, 'rb'))"], check=True)
    assert canary.exists()
