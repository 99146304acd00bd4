from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

import pytest

from pytest_backdoor.checks.provenance import default_lock_path
from pytest_backdoor.checks.provenance._lockfile import (
    MAX_BYTES,
    Artifact,
    Lock,
    LockedFile,
    dump_lock,
    read_lock,
    write_lock,
)
from pytest_backdoor.errors import LockError
from pytest_backdoor.files import write_atomically

A, B = "a" * 64, "b" * 64
HEAD = 'lock-version = "1"\n'
FULL = f"""\
lock-version = "1"

[policy]
require-hashes = true
allow-http = false

[[artifact]]
path = "models/z.onnx"
size = 10
sha256 = "{A}"
format = "onnx"
external = [{{ path = "models/z.onnx_data", size = 4, sha256 = "{B}" }}]
source = {{ type = "hf", repo = "org/name", file = "z.onnx", revision = "{"0" * 40}", requested = "main" }}
upstream = {{ alg = "sha256", value = "{A}", from = "hf-lfs" }}
recorded = {{ how = "upstream-match", tool = "pytest-backdoor 0.1.0" }}
signature = {{ method = "sigstore", bundle = "z.sig", identity = "me", issuer = "https://issuer" }}
allow = [{{ rule = "weak-or-short-hash", reason = "sha1 only", until = "2027-01-01" }}]

[[artifact]]
path = "hf://org/name@main/onnx/model.onnx"
size = 0
sha256 = "{B}"
format = "torch"
"""


def entry(path: str = "m.onnx", size: object = 1, sha256: str = A, format: str = "onnx", more: str = "") -> str:  # noqa: A002
    return f'[[artifact]]\npath = "{path}"\nsize = {size}\nsha256 = "{sha256}"\nformat = "{format}"\n{more}\n'


def artifact(path: str, sha256: str = A) -> Artifact:
    return Artifact(path=path, size=1, sha256=sha256, format="onnx")


def write(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "models.lock"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_full_lock_file_is_read_and_written_without_loss(tmp_path):
    lock = read_lock(write(tmp_path, FULL))
    found = lock.find("models/z.onnx")
    assert found is not None
    assert found.external == (LockedFile(path="models/z.onnx_data", size=4, sha256=B),)
    assert found.recorded_how == "upstream-match"
    assert lock.find("models/Z.onnx") is None
    write_lock(lock)
    content = lock.path.read_bytes()
    before, after = tomllib.loads(FULL), tomllib.loads(content.decode())
    before["artifact"].sort(key=lambda table: table["path"])
    assert after == before
    assert b"\r" not in content
    write_lock(read_lock(lock.path))
    assert lock.path.read_bytes() == content


def test_the_canonical_form_does_not_depend_on_the_order_of_adding(tmp_path):
    one, other = artifact("a.onnx"), artifact("b.onnx", B)
    lock = Lock(path=tmp_path / "models.lock")
    assert dump_lock(lock.with_artifacts([one]).with_artifacts([other])) == dump_lock(lock.with_artifacts([other, one]))


def test_adding_an_entry_keeps_all_the_others(tmp_path):
    lock = read_lock(write(tmp_path, FULL))
    write_lock(lock.with_artifacts([artifact("new.onnx")]))
    written = read_lock(lock.path)
    assert [entry.path for entry in written.artifacts] == [
        "hf://org/name@main/onnx/model.onnx",
        "models/z.onnx",
        "new.onnx",
    ]
    assert written.find("models/z.onnx") == lock.find("models/z.onnx")
    assert written.policy == lock.policy


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param("", "lock-version is None", id="empty"),
        pytest.param("artifact = [", "not TOML", id="broken"),
        pytest.param(b"\xff\xfe", "not TOML", id="no-utf8"),
        pytest.param(HEAD + "x = " + "[" * 100_000, "nested too deeply", id="deep"),
        pytest.param(HEAD + "#" * MAX_BYTES, "larger than", id="large"),
        pytest.param(HEAD + HEAD, "not TOML", id="duplicate-key"),
        pytest.param('lock-version = "2"', "lock-version is '2'", id="version"),
        pytest.param("lock-version = 1", "lock-version is 1", id="version-type"),
        pytest.param(HEAD + "artifacts = []", "unknown key 'artifacts' (did you mean 'artifact'?)", id="root-key"),
        pytest.param(HEAD + "artifact = [1]", "artifact 1 is not a table", id="no-table"),
        pytest.param(HEAD + "artifact = 1", "'artifact' of the file is not an array", id="no-array"),
        pytest.param(HEAD + "[policy]\nallow-htp = true", "did you mean 'allow-http'?", id="policy-key"),
        pytest.param(HEAD + "[policy]\nallow-http = 1", "not true or false", id="policy-type"),
        pytest.param(HEAD + entry(more='sha265 = "1"'), "did you mean 'sha256'?", id="artifact-key"),
        pytest.param(HEAD + '[[artifact]]\npath = "m"', "lacks the key 'size'", id="missing-key"),
        pytest.param(HEAD + entry(size=-1), "is negative", id="negative-size"),
        pytest.param(HEAD + entry(size="true"), "'size' of artifact 1 is not an integer", id="bool-size"),
        pytest.param(HEAD + entry(size=1.0), "not an integer", id="float-size"),
        pytest.param(HEAD + entry(sha256=A.upper()), "64 lower-case", id="upper-hash"),
        pytest.param(HEAD + entry(sha256=A + "\\n"), "64 lower-case", id="hash-newline"),
        pytest.param(HEAD + entry(sha256="a" * 40), "64 lower-case", id="short-hash"),
        pytest.param(HEAD + entry(sha256="１" * 64), "64 lower-case", id="full-width-digits"),
        pytest.param(HEAD + entry(sha256="sha256:" + A), "64 lower-case", id="hash-prefix"),
        pytest.param(HEAD + entry(format="onx"), "did you mean 'onnx'?", id="format"),
        pytest.param(HEAD + entry(more="external = [{path = 'd', size = 1}]"), "lacks the key 'sha256'", id="ext"),
        pytest.param(HEAD + entry(more=f"external = [{{path='../d', size=1, sha256='{A}'}}]"), "'..'", id="ext-path"),
        pytest.param(
            HEAD + entry(more=f"external = [{{path='M.onnx', size=1, sha256='{A}'}}]"), "itself", id="ext-own"
        ),
        pytest.param(HEAD + entry(more="source = {}"), "lacks the key 'type'", id="source-no-type"),
        pytest.param(HEAD + entry(more="source = {type = 'locale'}"), "did you mean 'local'?", id="source-type"),
        pytest.param(HEAD + entry(more="source = {type = 'url', ulr = 'x'}"), "did you mean 'url'?", id="source-key"),
        pytest.param(HEAD + entry(more="recorded = {how = 'hope'}"), "instead of one of", id="recorded-how"),
        pytest.param(HEAD + entry(more="upstream = {alg = 'md5'}"), "lacks the key 'value'", id="upstream"),
        pytest.param(HEAD + entry(more="signature = {metod = 'key'}"), "did you mean 'method'?", id="signature"),
        pytest.param(HEAD + entry(more="allow = [{rule = 'x'}]"), "lacks the key 'reason'", id="allow"),
        pytest.param(HEAD + entry() + entry(), "name the same file", id="duplicate-path"),
        pytest.param(HEAD + entry("a.onnx") + entry("A.onnx"), "name the same file", id="case-clash"),
        pytest.param(HEAD + entry("straße.onnx") + entry("STRASSE.onnx"), "name the same file", id="casefold-clash"),
        pytest.param(
            HEAD + entry("a.onnx", more=f"external = [{{path='B.onnx', size=2, sha256='{B}'}}]") + entry("b.onnx"),
            "listed before, not alike",
            id="external-clash",
        ),
    ],
)
def test_whatever_is_wrong_with_a_lock_file_is_a_lock_error(tmp_path, text, reason):
    path = write(tmp_path, text)
    with pytest.raises(LockError) as caught:
        read_lock(path)
    assert reason in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/m.onnx",
        "../m.onnx",
        "a/../m.onnx",
        "./m.onnx",
        "a//m.onnx",
        "a/",
        "C:/m.onnx",
        "a\\\\m.onnx",
        "m\\nx.onnx",
        "m\\u0000.onnx",
        "file:///m.onnx",
        "https://host/m.onnx",
        "e\\u0301.onnx",
        "hf://org/m.onnx",
        "hf://org/name@main/../m.onnx",
        "hf://org/name@main//etc/passwd",
    ],
)
def test_paths_that_could_name_another_file_are_refused(tmp_path, path):
    with pytest.raises(LockError, match="the path"):
        read_lock(write(tmp_path, HEAD + entry(path)))


def test_models_may_share_external_data_that_their_entries_agree_on(tmp_path):
    more = f"external = [{{path='shared.bin', size=2, sha256='{B}'}}]"
    lock = read_lock(write(tmp_path, HEAD + entry("a.onnx", more=more) + entry("b.onnx", more=more)))
    assert len(lock.artifacts) == 2


def test_the_example_of_the_documentation_is_valid(tmp_path):
    page = (Path(__file__).parents[2] / "docs" / "lock-file.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    example = example.replace("9f2c…", A).replace("41d0…", B)
    (found,) = read_lock(write(tmp_path, example)).artifacts
    assert set(found.claims) == {"source", "upstream", "recorded", "signature", "allow"}


def test_windows_line_ends_are_read(tmp_path):
    assert len(read_lock(write(tmp_path, FULL.replace("\n", "\r\n"))).artifacts) == 2


def test_a_missing_lock_file_names_the_command_that_makes_one(tmp_path):
    with pytest.raises(LockError, match="pytest-backdoor lock add"):
        read_lock(tmp_path / "models.lock")


def test_a_folder_is_no_lock_file(tmp_path):
    with pytest.raises(LockError, match="cannot be read"):
        read_lock(tmp_path)


def test_an_invalid_lock_is_never_written(tmp_path):
    path = write(tmp_path, FULL)
    with pytest.raises(LockError, match="64 lower-case"):
        write_lock(read_lock(path).with_artifacts([artifact("new.onnx", "nonsense")]))
    assert path.read_text() == FULL


def test_a_write_that_is_cut_short_leaves_the_old_file(tmp_path, monkeypatch):
    path = write(tmp_path, FULL)

    def die(self, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        write_lock(read_lock(path).with_artifacts([artifact("new.onnx")]))
    assert path.read_text() == FULL
    assert [file.name for file in tmp_path.iterdir()] == ["models.lock"]


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        (("a/pyproject.toml",), "a/models.lock"),
        (("models.lock",), "models.lock"),
        (("models.lock", "a/.git"), "a/models.lock"),
        (("a/b/models.lock", "a/pyproject.toml"), "a/b/models.lock"),
    ],
)
def test_the_default_lock_file_is_the_project_s(tmp_path, present, expected):
    start = tmp_path / "a" / "b"
    start.mkdir(parents=True)
    for name in present:
        (tmp_path / name).touch()
    assert default_lock_path(start) == tmp_path / expected


def test_writing_follows_no_link_that_lies_in_the_way(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    (tmp_path / f".models.lock.{os.getpid()}.partial").symlink_to(victim)
    write_atomically(tmp_path / "models.lock", b"new")
    assert victim.read_text() == "untouched"
    assert not (tmp_path / "models.lock").is_symlink()
