"""Every file of a model is opened once: what is hashed, inspected and run is the same bytes."""

from __future__ import annotations

import collections
import hashlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx_builders import SHAPE, expected_logits, linear_model, save, subject, weights, with_external_data

from pytest_backdoor.errors import ModelError
from pytest_backdoor.models import Subject, _reading
from pytest_backdoor.models._files import read_model, subject_files
from pytest_backdoor.models._reading import read_file
from pytest_backdoor.settings import ScanSettings, make_settings

links = pytest.mark.skipif(os.name == "nt", reason="links need privileges there")
IMAGES = np.random.default_rng(0).random((3, *SHAPE), np.float32)


def external(folder: Path) -> Path:
    path = save(folder / "net.onnx", with_external_data(linear_model(), "net.bin"))
    path.with_name("net.bin").write_bytes(weights().tobytes())
    return path


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_row_30_files_that_are_swapped_after_they_were_hashed_are_not_opened(tmp_path):
    path = external(tmp_path)
    found = subject(path)
    hashes = [file.sha256 for file in found.files]
    assert hashes == [digest(path), digest(tmp_path / "net.bin")]
    path.write_bytes(linear_model(matrix=-weights()).SerializeToString())
    (tmp_path / "net.bin").write_bytes((-weights()).tobytes())
    np.testing.assert_allclose(found.classifier.logits(IMAGES), expected_logits(IMAGES), atol=1e-5)
    assert [file.sha256 for file in found.files] == hashes


def test_row_30_nothing_needs_the_files_once_they_were_read(tmp_path):
    """Neither ONNX Runtime nor the torch program, which open files where no Python code sees it."""
    torch = pytest.importorskip("torch")
    path = external(tmp_path)
    found = subject(path)
    assert found.problems == ()
    path.unlink()
    (tmp_path / "net.bin").unlink()
    np.testing.assert_allclose(found.classifier.logits(IMAGES), expected_logits(IMAGES), atol=1e-5)
    logits = found.classifier.differentiable("cpu")(torch.from_numpy(IMAGES)).numpy()
    np.testing.assert_allclose(logits - logits.mean(1, keepdims=True), expected_logits(IMAGES), atol=1e-4)


HOOK = """
import os, sys
log = os.environ["OPENED"]
def note(event, arguments):
    if event == "open" and str(arguments[0]).endswith(("net.onnx", "net.bin")):
        descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, (os.path.basename(str(arguments[0])) + "\\n").encode())
        os.close(descriptor)
sys.addaudithook(note)
"""
SCAN = """
import sys
from pathlib import Path
from pytest_backdoor.scanning import scan
if __name__ == "__main__":
    report = scan(Path(sys.argv[1]), root=Path(sys.argv[1]).parent)
    print([(finding.check, finding.outcome.value) for finding in report.models[0].findings])
"""


def test_a_scan_opens_each_file_once_in_all_of_its_processes(tmp_path):
    path = external(tmp_path / "models")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(HOOK)
    (tmp_path / "run.py").write_text(SCAN)
    search = os.pathsep.join([str(tmp_path / "site"), str(Path(_reading.__file__).parents[2])])
    done = subprocess.run(
        [sys.executable, tmp_path / "run.py", path],
        env=os.environ | {"PYTHONPATH": search, "OPENED": str(tmp_path / "log")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "'provenance', 'not_assessed'" in done.stdout, done.stderr
    assert "'margin'" in done.stdout
    opened = collections.Counter((tmp_path / "log").read_text().split())
    assert opened == {"net.onnx": 1, "net.bin": 1}


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "net.bin"
    path.write_bytes(bytes(1000))
    into = _reading._into

    def grow(stream, room):
        with path.open("ab") as end:
            end.write(b"more")
        return into(stream, room)

    monkeypatch.setattr(_reading, "_into", grow)
    for keep in (-1, 1 << 20):
        with pytest.raises(ModelError, match=r"net\.bin changed while it was read"):
            read_file(path, keep=keep)


@pytest.mark.parametrize("size", [0, 1, _reading.CHUNK_BYTES, _reading.CHUNK_BYTES + 1, 3_000_001])
def test_what_is_kept_and_what_is_streamed_have_one_hash(tmp_path, size):
    content = np.random.default_rng(size).bytes(size)
    path = tmp_path / "f"
    path.write_bytes(content)
    kept, streamed = read_file(path, keep=size), read_file(path, keep=size - 1)
    assert kept.data == content
    assert streamed.data is None
    assert kept.sha256 == streamed.sha256 == hashlib.sha256(content).hexdigest()
    assert kept.size == streamed.size == size


def test_without_memory_a_file_is_hashed_all_the_same(tmp_path, monkeypatch):
    def fail(*arguments):
        raise MemoryError

    monkeypatch.setattr(_reading, "_read", fail)
    found = subject(save(tmp_path / "net.onnx", linear_model()))
    assert found.sha256 == digest(tmp_path / "net.onnx")
    assert [problem.rule for problem in found.problems] == ["too-large"]
    with pytest.raises(ModelError, match=r"net\.onnx has \d+ bytes, which is more than can be looked into"):
        _ = found.classifier


def test_what_is_larger_than_may_be_kept_is_hashed_and_not_opened(tmp_path):
    path = save(tmp_path / "net.onnx", with_external_data(linear_model(), "net.bin"))
    with (tmp_path / "net.bin").open("wb") as stream:
        stream.write(weights().tobytes())
        stream.write(bytes(1 << 20))
    found = subject(path, memory=1)
    assert [file.sha256 for file in found.files] == [digest(path), digest(tmp_path / "net.bin")]
    assert [file.data is None for file in found.files] == [False, True]
    assert [problem.rule for problem in found.problems] == ["too-large"]
    with pytest.raises(ModelError, match=r"net\.bin, external data of net\.onnx, has \d+ bytes"):
        _ = found.classifier


def test_listing_keeps_no_content(tmp_path):
    files = subject_files(external(tmp_path))
    assert [file.data for file in files] == [None, None]
    assert [file.sha256 for file in files] == [digest(tmp_path / "net.onnx"), digest(tmp_path / "net.bin")]


def test_a_missing_data_file_is_named(tmp_path):
    path = external(tmp_path)
    (tmp_path / "net.bin").unlink()
    found = subject(path)
    assert [problem.rule for problem in found.problems] == ["missing-file"]
    with pytest.raises(ModelError, match=r"net\.bin, external data of net\.onnx, does not exist\. Put it beside"):
        _ = found.classifier


# What is no plain file


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.bind(str(path))


NO_FILES = {
    "folder": lambda path: path.mkdir(),
    "pipe": os.mkfifo if hasattr(os, "mkfifo") else None,
    "loop": lambda path: path.symlink_to(path.name),
    "device": lambda path: path.symlink_to("/dev/zero"),
    "socket": a_socket,
    "dangling": lambda path: path.symlink_to("gone"),
    "gone": lambda path: None,
}


@links
@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", NO_FILES)
def test_row_31_what_is_no_plain_file_is_a_sentence(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    NO_FILES[kind](Path("net.onnx"))
    found = Subject("net.onnx", ScanSettings(), path=Path("net.onnx"))
    for ask in ("files", "problems", "sha256", "classifier"):
        with pytest.raises(
            ModelError, match=r"^net\.onnx (is not a regular|does not exist|cannot be opened).*[a-z]\.$"
        ):
            getattr(found, ask)


@links
@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", [kind for kind in NO_FILES if kind not in ("dangling", "gone", "socket")])
def test_row_31_external_data_that_are_no_plain_file_are_refused(tmp_path, kind):
    path = external(tmp_path)
    (tmp_path / "net.bin").unlink()
    NO_FILES[kind](tmp_path / "net.bin")
    (problem,) = subject(path).problems
    assert problem.rule == ("external-data-outside" if kind == "device" else "unsafe-path")
    assert problem.message.startswith("net.bin, external data of net.onnx, ")


@links
@pytest.mark.parametrize("name", ["new\nline.onnx", "bell\x07.onnx", os.fsdecode(b"\xff\xfe.onnx")])
def test_row_31_a_name_that_is_no_text_is_refused_and_can_be_printed(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(linear_model().SerializeToString())
    found = Subject(name, ScanSettings(), path=path)
    assert found.display.isprintable()
    (problem,) = found.problems
    assert problem.rule == "unsafe-path"
    problem.message.encode("utf-8")
    assert problem.message.isprintable()


@links
def test_row_31_a_link_out_of_the_root_is_refused_and_one_within_it_is_not(tmp_path):
    outside = save(tmp_path / "outside.onnx", linear_model())
    root = tmp_path / "root"
    inside = save(root / "store" / "inside.onnx", linear_model())
    (root / "models").mkdir()
    for target in (inside, outside):
        (root / "models" / target.name).symlink_to(target)
    settings = make_settings({}, where="test")
    rules = {
        target.name: [
            problem.rule
            for problem in Subject(target.name, settings, path=root / "models" / target.name, root=root).problems
        ]
        for target in (inside, outside)
    }
    assert rules == {"inside.onnx": [], "outside.onnx": ["unsafe-path"]}
    # A path that does not claim to be in the root may lead anywhere.
    assert Subject("outside.onnx", settings, path=outside, root=root).problems == ()


@links
def test_a_hard_link_of_the_model_itself_is_no_problem(tmp_path):
    """Caches of packages and models are full of them."""
    path = save(tmp_path / "net.onnx", linear_model())
    os.link(path, tmp_path / "other.onnx")
    assert subject(path).problems == ()


def test_a_sparse_model_file_is_refused_without_reading_it(tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(linear_model().SerializeToString())
    os.truncate(path, 1 << 40)
    if path.stat().st_blocks * 512 > 1 << 30:
        pytest.skip("this file system has no sparse files")
    with pytest.raises(ModelError, match="sparse file"):
        read_model(path, "net.onnx")
