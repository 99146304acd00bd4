from __future__ import annotations

import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from pytest_backdoor.checks._base import Context
from pytest_backdoor.checks.provenance import ProvenanceCheck
from pytest_backdoor.checks.provenance._lockfile import read_lock, write_lock
from pytest_backdoor.checks.provenance._record import new_artifact, record
from pytest_backdoor.errors import ModelError
from pytest_backdoor.findings import Outcome
from pytest_backdoor.models import Subject
from pytest_backdoor.models._files import ExternalDataError, hash_file, subject_files
from pytest_backdoor.models._format import sniff_format
from pytest_backdoor.settings import ScanSettings

links = pytest.mark.skipif(os.name == "nt", reason="links need privileges there")
DATA = bytes(range(16))


def external_tensor(*entries: tuple[str, str], name: str = "w") -> TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in entries:
        tensor.external_data.add(key=key, value=value)
    return tensor


def located(location: str) -> TensorProto:
    return external_tensor(("location", location))


def make_model(*tensors: TensorProto, value: float = 1.0) -> onnx.ModelProto:
    own = helper.make_tensor("c", TensorProto.FLOAT, [1], [value])
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    node = helper.make_node("Add", ["x", "c"], ["y"])
    return helper.make_model(helper.make_graph([node], "g", [image], [result], [own, *tensors]))


def save(path: Path, model: onnx.ModelProto) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path


def lock(root: Path, name: str) -> None:
    record(root / "models.lock", [new_artifact(name, root / name)])


def run(root: Path, name: str, lock_name: str | None = "models.lock", path: Path | None = None):
    settings = ScanSettings(lock=lock_name)
    subject = Subject(name, settings, path=path or root / name)
    finding = ProvenanceCheck().run(subject, Context(settings=settings, root=root, behavioural_checks=()))
    json.dumps(finding.to_json())
    assert finding.check == "provenance"
    assert finding.behavioural is False
    assert finding.remedy or finding.outcome in (Outcome.PASSED, Outcome.ERROR, Outcome.FAILED)
    return finding


@pytest.fixture
def model(tmp_path) -> Path:
    """A model with external data, listed in the lock file."""
    path = save(tmp_path / "models" / "net.onnx", make_model(located("net.bin")))
    (path.parent / "net.bin").write_bytes(DATA)
    lock(tmp_path, "models/net.onnx")
    return path


def test_equal_files_pass(tmp_path, model):
    finding = run(tmp_path, "models/net.onnx")
    assert finding.outcome is Outcome.PASSED
    assert "trust-on-first-use" in finding.summary
    files = finding.evidence["files"]
    assert [(file["path"], file["status"]) for file in files] == [("models/net.onnx", "ok"), ("models/net.bin", "ok")]
    assert files[0]["sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert files[1]["size"] == len(DATA)
    assert finding.evidence["lock"].endswith("models.lock")


def tamper_same_size(model: Path) -> None:
    content = bytearray(model.read_bytes())
    content[content.index(b"\x00\x00\x80\x3f")] ^= 1
    model.write_bytes(content)


def name_other_data(model: Path) -> None:
    (model.parent / "other.bin").write_bytes(DATA)
    save(model, make_model(located("other.bin")))


CHANGES: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "same-size": (tamper_same_size, ("models/net.onnx changed: SHA-256", "expected")),
    "other-size": (
        lambda model: model.write_bytes(model.read_bytes() + b"\x12\x00"),
        ("models/net.onnx changed", "bytes found", "bytes expected"),
    ),
    "external-content": (
        lambda model: (model.parent / "net.bin").write_bytes(DATA[::-1]),
        ("models/net.bin,", "SHA-256"),
    ),
    "external-size": (
        lambda model: (model.parent / "net.bin").write_bytes(b""),
        ("net.bin", "0 bytes found, 16 bytes"),
    ),
    "external-gone": (lambda model: (model.parent / "net.bin").unlink(), ("net.bin", "does not exist")),
    "external-renamed": (name_other_data, ("other.bin", "not listed", "net.bin", "no longer names it")),
    "no-external": (lambda model: save(model, make_model()), ("net.bin", "no longer names it")),
    "truncated": (lambda model: model.write_bytes(model.read_bytes()[:40]), ("net.onnx changed",)),
    "another-format": (
        lambda model: model.write_bytes(b"\x80\x02K\x01."),
        ("format of models/net.onnx is pickle, expected onnx",),
    ),
    "empty": (lambda model: model.write_bytes(b""), ("0 bytes found", "is empty, expected onnx")),
}


@pytest.mark.parametrize("change", CHANGES)
def test_any_difference_fails_and_is_named(tmp_path, model, change):
    alter, words = CHANGES[change]
    alter(model)
    finding = run(tmp_path, "models/net.onnx")
    assert finding.outcome is Outcome.FAILED
    for word in words:
        assert word in finding.summary
    assert "lock update models/net.onnx" in finding.remedy
    assert "get the published file again" in finding.remedy


def test_a_file_that_is_not_listed_fails(tmp_path, model):
    shutil.copy(model, tmp_path / "my net.onnx")
    shutil.copy(model.parent / "net.bin", tmp_path)
    finding = run(tmp_path, "my net.onnx")
    assert finding.outcome is Outcome.FAILED
    assert "is not listed in models.lock" in finding.summary
    assert "lock add 'my net.onnx'" in finding.remedy
    assert [file["status"] for file in finding.evidence["files"]] == ["not-listed", "not-listed"]
    assert all(file["sha256"] for file in finding.evidence["files"])


def test_a_file_outside_the_folder_of_the_lock_file_is_not_listed(tmp_path, model):
    save(tmp_path / "n.onnx", make_model())
    write_lock(read_lock(tmp_path / "models.lock"))
    shutil.move(tmp_path / "models.lock", tmp_path / "models")
    finding = run(tmp_path, "n.onnx", "models/models.lock")
    assert finding.outcome is Outcome.FAILED
    assert "not listed" in finding.summary
    assert "outside" in finding.summary


def test_without_a_lock_file_nothing_is_assessed_but_the_hash_is_told(tmp_path, model):
    finding = run(tmp_path, "models/net.onnx", None)
    assert finding.outcome is Outcome.NOT_ASSESSED
    assert hashlib.sha256(model.read_bytes()).hexdigest() in finding.summary
    assert "pytest-backdoor lock add models/net.onnx" in finding.remedy
    assert finding.evidence["lock"] is None


def test_a_live_network_is_not_assessed(tmp_path):
    settings = ScanSettings()
    context = Context(settings=settings, root=tmp_path, behavioural_checks=())
    assert ProvenanceCheck().run(Subject("net", settings), context).outcome is Outcome.NOT_ASSESSED


@pytest.mark.parametrize("content", [None, "x = ", 'lock-version = "9"'])
def test_a_lock_file_that_cannot_be_used_is_an_error(tmp_path, model, content):
    (tmp_path / "models.lock").unlink()
    if content is not None:
        (tmp_path / "models.lock").write_text(content)
    finding = run(tmp_path, "models/net.onnx")
    assert finding.outcome is Outcome.ERROR
    assert "models.lock" in finding.summary


def test_a_model_that_cannot_be_read_is_an_error(tmp_path, model):
    model.unlink()
    assert run(tmp_path, "models/net.onnx").outcome is Outcome.ERROR


def test_a_format_that_the_entry_lies_about_fails(tmp_path, model):
    path = tmp_path / "models.lock"
    path.write_text(path.read_text().replace('format = "onnx"', 'format = "torch"'))
    finding = run(tmp_path, "models/net.onnx")
    assert finding.outcome is Outcome.FAILED
    assert "is onnx, expected torch" in finding.summary


def test_a_listed_file_that_cannot_be_parsed_does_not_pass(tmp_path, model):
    model.write_bytes(model.read_bytes()[:40])
    sha256, size = hash_file(model)
    path = tmp_path / "models.lock"
    text = path.read_text().replace(read_lock(path).artifacts[0].sha256, sha256)
    path.write_text(text.replace(f"size = {read_lock(path).artifacts[0].size}\n", f"size = {size}\n", 1))
    finding = run(tmp_path, "models/net.onnx")
    assert finding.outcome is Outcome.FAILED
    assert "cannot be parsed" in finding.summary


def test_an_entry_that_asks_for_a_signature_does_not_pass_without_one(tmp_path, model):
    path = tmp_path / "models.lock"
    path.write_text(path.read_text() + '\n[artifact.signature]\nmethod = "key"\n')
    finding = run(tmp_path, "models/net.onnx")
    assert finding.outcome is Outcome.ERROR
    assert "signature" in finding.summary


def test_hub_names_are_listed_verbatim(tmp_path):
    name = f"hf://org/name@{'0f' * 20}/onnx/model.onnx"
    path = save(tmp_path / "cache" / "model.onnx", make_model(located("model.onnx_data")))
    (path.parent / "model.onnx_data").write_bytes(DATA)
    record(tmp_path / "models.lock", [new_artifact(name, path)])
    entry = read_lock(tmp_path / "models.lock").artifacts[0]
    assert entry.external[0].path == f"{name}_data"
    assert run(tmp_path, name, path=path).outcome is Outcome.PASSED


# External data: where they are found, and which are refused


def in_constant(tensor: TensorProto) -> onnx.ModelProto:
    model = make_model()
    model.graph.node.append(helper.make_node("Constant", [], ["k"], value=tensor))
    return model


def in_subgraph(tensor: TensorProto) -> onnx.ModelProto:
    model = make_model()
    inner = helper.make_graph([], "then", [], [], [tensor])
    deeper = helper.make_graph([helper.make_node("If", ["q"], [], then_branch=inner)], "else", [], [])
    model.graph.node.append(helper.make_node("If", ["q"], [], else_branch=deeper))
    return model


def in_function(tensor: TensorProto) -> onnx.ModelProto:
    model = make_model()
    node = helper.make_node("Constant", [], ["k"], value=tensor)
    model.functions.append(helper.make_function("d", "f", [], ["k"], [node], []))
    return model


def in_sparse(tensor: TensorProto) -> onnx.ModelProto:
    model = make_model()
    indices = helper.make_tensor("i", TensorProto.INT64, [0], [])
    model.graph.sparse_initializer.append(onnx.SparseTensorProto(values=tensor, indices=indices, dims=[4]))
    return model


def in_training(tensor: TensorProto) -> onnx.ModelProto:
    model = make_model()
    model.training_info.add().algorithm.initializer.append(tensor)
    return model


@pytest.mark.parametrize("place", [make_model, in_constant, in_subgraph, in_function, in_sparse, in_training])
def test_external_data_are_found_wherever_a_tensor_may_be(tmp_path, place):
    path = save(tmp_path / "m.onnx", place(located("./a/d.bin")))
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "d.bin").write_bytes(DATA)
    assert [(file.location, file.size) for file in subject_files(path)[1:]] == [("a/d.bin", 16)]


def test_a_file_that_many_tensors_name_is_listed_once(tmp_path):
    path = save(tmp_path / "m.onnx", make_model(located("d.bin"), located("./d.bin"), located("c.bin")))
    assert [file.location for file in subject_files(path)] == [None, "c.bin", "d.bin"]


def test_a_stale_location_of_a_tensor_that_is_inside_the_model_does_not_count(tmp_path):
    tensor = located("d.bin")
    tensor.data_location = TensorProto.DEFAULT
    assert len(subject_files(save(tmp_path / "m.onnx", make_model(tensor)))) == 1


BAD_LOCATIONS = [
    "../d",
    "a/../../d",
    "/etc/hosts",
    "C:\\d",
    "C:d",
    "..\\d",
    "d.bin\0x",
    "d\nx",
    "",
    ".",
    "*/_ORT_MEM_ADDR_/*",
]


@pytest.mark.parametrize("location", BAD_LOCATIONS)
def test_locations_that_lead_elsewhere_are_refused(tmp_path, location):
    (tmp_path / "d.bin").write_bytes(DATA)
    path = save(tmp_path / "m.onnx", make_model(located(location)))
    with pytest.raises(ExternalDataError, match=r"m\.onnx"):
        subject_files(path)
    for lock_name in (None, "models.lock"):
        (tmp_path / "models.lock").write_text('lock-version = "1"')
        finding = run(tmp_path, "m.onnx", lock_name)
        assert finding.outcome is Outcome.FAILED
        assert finding.remedy


def test_a_location_that_is_no_utf8_is_refused(tmp_path):
    content = make_model(located("QQQQ")).SerializeToString().replace(b"QQQQ", b"\xff\xfe\xfd\xfc")
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(ExternalDataError):
        subject_files(path)


@pytest.mark.parametrize("entries", [(), (("offset", "0"),), (("location", "a"), ("location", "b"))])
def test_a_tensor_names_exactly_one_file(tmp_path, entries):
    with pytest.raises(ExternalDataError, match="readers disagree"):
        subject_files(save(tmp_path / "m.onnx", make_model(external_tensor(*entries))))


@links
@pytest.mark.parametrize("target", ["../secret", "nowhere/../../secret"])
def test_a_link_out_of_the_folder_is_refused(tmp_path, target):
    (tmp_path / "secret").write_bytes(DATA)
    path = save(tmp_path / "m" / "m.onnx", make_model(located("d.bin")))
    (path.parent / "nowhere").mkdir()
    (path.parent / "d.bin").symlink_to(target)
    with pytest.raises(ExternalDataError, match=r"leads out"):
        subject_files(path)


@links
def test_a_linked_folder_out_of_the_folder_is_refused(tmp_path):
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "d.bin").write_bytes(DATA)
    path = save(tmp_path / "m" / "m.onnx", make_model(located("sub/d.bin")))
    (path.parent / "sub").symlink_to("../secrets")
    with pytest.raises(ExternalDataError, match=r"leads out"):
        subject_files(path)


@links
def test_a_hard_link_is_refused(tmp_path):
    (tmp_path / "secret").write_bytes(DATA)
    path = save(tmp_path / "m" / "m.onnx", make_model(located("d.bin")))
    (path.parent / "d.bin").hardlink_to(tmp_path / "secret")
    with pytest.raises(ExternalDataError, match="hard link"):
        subject_files(path)


@links
def test_a_link_loop_is_a_model_error(tmp_path):
    path = save(tmp_path / "m.onnx", make_model(located("d.bin")))
    (tmp_path / "d.bin").symlink_to("d.bin")
    with pytest.raises(ModelError):
        subject_files(path)


@links
def test_a_pipe_is_refused_without_waiting_for_it(tmp_path):
    path = save(tmp_path / "m.onnx", make_model(located("d.bin")))
    os.mkfifo(tmp_path / "d.bin")
    with pytest.raises(ExternalDataError, match="not a regular file"):
        subject_files(path)
    with pytest.raises(ModelError, match="not a regular file"):
        hash_file(tmp_path / "d.bin")


def hub_cache(root: Path, *, shared: bool = False) -> Path:
    """A model with external data as the cache of huggingface_hub lays it out; the path of the model."""
    repository = root / "models--org--name"
    snapshot = repository / "snapshots" / ("0" * 40) / "onnx"
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    for name, content in (
        ("model.onnx", make_model(located("model.onnx_data")).SerializeToString()),
        ("model.onnx_data", DATA),
    ):
        blob = repository / "blobs" / hashlib.sha256(content).hexdigest()
        if shared:
            store = root / "blobs" / "ab" / ("f" * 63 + name[-1])
            store.parent.mkdir(parents=True, exist_ok=True)
            store.write_bytes(content)
            blob.symlink_to(os.path.relpath(store, blob.parent))
        else:
            blob.write_bytes(content)
        (snapshot / name).symlink_to(Path("../../../blobs") / blob.name)
    return snapshot / "model.onnx"


@links
@pytest.mark.parametrize("shared", [False, True])
def test_the_layout_of_a_hugging_face_cache_is_allowed(tmp_path, shared):
    path = hub_cache(tmp_path, shared=shared)
    assert [(file.location, file.size) for file in subject_files(path)[1:]] == [("model.onnx_data", 16)]


@links
def test_a_link_out_of_a_hugging_face_cache_is_refused(tmp_path):
    path = hub_cache(tmp_path / "hub")
    (tmp_path / "secret").write_bytes(DATA)
    data = path.with_name("model.onnx_data")
    data.unlink()
    data.symlink_to(tmp_path / "secret")
    with pytest.raises(ExternalDataError, match="leads out"):
        subject_files(path)


@links
def test_a_blobs_folder_that_is_a_link_gives_no_licence(tmp_path):
    path = hub_cache(tmp_path / "hub")
    blobs = tmp_path / "hub" / "models--org--name" / "blobs"
    blobs.rename(tmp_path / "elsewhere")
    blobs.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ExternalDataError, match="leads out"):
        subject_files(path)


# Reading


@pytest.mark.parametrize("length", [3, 40, 80])
def test_a_truncated_onnx_file_is_listed_alone_and_flagged(tmp_path, length):
    path = save(tmp_path / "m.onnx", make_model(located("d.bin")))
    path.write_bytes(path.read_bytes()[:length])
    files = subject_files(path)
    assert len(files) == 1
    assert files[0].malformed


def test_hash_file_reads_everything(tmp_path):
    content = os.urandom((1 << 20) + 5)
    (tmp_path / "f").write_bytes(content)
    assert hash_file(tmp_path / "f") == (hashlib.sha256(content).hexdigest(), len(content))


@pytest.mark.parametrize("name", ["gone", "bad\0name", "."])
def test_what_cannot_be_opened_is_a_model_error(tmp_path, name):
    with pytest.raises(ModelError):
        hash_file(tmp_path / name)


def zip_of(*names: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, b"x")

    return make


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "lfs-pointer"),
        (b"\n <!DOCTYPE html><html>", "html"),
        (b"<HTML>", "html"),
        (b"hello, world\n", "text"),
        ("é".encode() * 4095, "text"),
        (b"x" + "é".encode() * 4095, "text"),
        (b"\x89HDF\r\n\x1a\n\0\0", "hdf5"),
        (b"\x80\x02}q\x00.", "pickle"),
        (b"\x08\x00\x00\x00\x00\x00\x00\x00{}      ", "safetensors"),
        (b"\x1f\x8b\x08\x00", "gzip"),
        (b"\x00" * 100, None),
        (b"\xff" * 100, None),
        (b"PK\x03\x04 cut short", None),
        (b"PK\x03\x04 archive/data.pkl cut short", "torch-zip"),
        (make_model().SerializeToString(), "onnx"),
        (make_model().SerializeToString()[:20], "onnx"),
        (zip_of("archive/data.pkl", "archive/data/0"), "torch-zip"),
        (zip_of("archive/data.pkl", "archive/code/net.py"), "torchscript"),
        (zip_of("archive/data.pkl", "archive/constants.pkl"), "torchscript"),
        (zip_of("readme"), "zip"),
    ],
)
def test_formats_are_told_by_content(tmp_path, content, expected):
    path = tmp_path / "model.onnx"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        content(path)
    assert sniff_format(path) == expected


# The source that the settings name


@pytest.mark.parametrize(
    ("source", "rules"),
    [
        ("http://example.org/net.onnx", {"plain-http"}),
        ("https://huggingface.co/org/name/resolve/main/net.onnx", {"unpinned-revision"}),
        ("hf://org/name@v1/net.onnx", {"unpinned-revision"}),
        (f"hf://org/name@{'0f' * 20}/net.onnx", set()),
        ("https://example.org/net.onnx", set()),
        ("trained in March", set()),
    ],
)
def test_the_declared_source_is_judged(tmp_path, model, source, rules):
    settings = ScanSettings(lock="models.lock", source=source)
    subject = Subject("models/net.onnx", settings, path=model)
    finding = ProvenanceCheck().run(subject, Context(settings=settings, root=tmp_path, behavioural_checks=()))
    assert {problem.rule for problem in finding.problems if problem.blocks} == rules
    assert finding.outcome is (Outcome.FAILED if rules else Outcome.PASSED)
