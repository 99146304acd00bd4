"""Lists of hashes that publishers put beside their models."""

from __future__ import annotations

import hashlib
import tracemalloc
from pathlib import Path

import pytest
from corpus.locks import MD5, MODEL, OTHER, SHA1, SHA256

from pytest_backdoor.checks.provenance._lockfile import Artifact, read_lock
from pytest_backdoor.checks.provenance._published import MAX_BYTES, read_published
from pytest_backdoor.checks.provenance._sidecars import parse_caffe, parse_dvc
from pytest_backdoor.checks.provenance._sums import parse_sums
from pytest_backdoor.checks.provenance._yaml import read_table
from pytest_backdoor.cli import DIFFERENT, OK, WRONG, main
from pytest_backdoor.errors import LockError

PLACE = Path("list")
BLAKE = hashlib.blake2b(MODEL).hexdigest()


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch) -> Path:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "m.safetensors").write_bytes(MODEL)
    return tmp_path


def stored(project: Path, path: str = "m.safetensors") -> Artifact:
    artifact = read_lock(project / "models.lock").find(path)
    assert artifact is not None
    return artifact


def readme(sha1: str = SHA1, url: str = "https://h.example/m") -> str:
    return f"---\nname: M\ncaffemodel: m.safetensors\ncaffemodel_url: {url}\nsha1: {sha1}\n---\n\n# M\n"


@pytest.mark.parametrize(
    ("line", "alg", "name"),
    [
        (f"{SHA256}  m", "sha256", "m"),
        (f"{SHA256} *m", "sha256", "m"),
        (f"{SHA256.upper()}  m", "sha256", "m"),
        (f"{SHA256}  ./a b/m (1)", "sha256", "a b/m (1)"),
        (f"\\{SHA256}  a\\nb\\\\n\\\\c", "sha256", "a\nb\\n\\c"),
        (f"SHA256 (m (1) = x) = {SHA256}", "sha256", "m (1) = x"),
        (f"\\SHA256 (a\\nb) = {SHA256}", "sha256", "a\nb"),
        (f"SHA1 (m) = {SHA1}", "sha1", "m"),
        (f"MD5 (m) = {MD5}", "md5", "m"),
        (f"BLAKE2b (m) = {BLAKE}", "blake2b", "m"),
        (f"# a comment\n{SHA256}  m\n", "sha256", "m"),
    ],
)
def test_row_32_all_forms_of_checksum_files(line, alg, name):
    (file,) = parse_sums(line, PLACE, "sha256")
    assert (file.file, file.alg) == (name, alg)
    assert file.value == hashlib.new(alg, MODEL).hexdigest()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "# nothing\n",
        "garbage",
        f"{SHA256}  m\ngarbage\n",
        f"{SHA256}  m\n\n",
        f"{SHA256}  m\r\n",
        f"{SHA256} m",
        f"{SHA256}\tm",
        f" {SHA256}  m",
        f"{SHA256[:-1]}  m",
        f"{SHA1}  m",
        f"SHA3 (m) = {SHA256}",
        f"SHA256 (m) = {SHA1}",
        f"\\{SHA256}  a\\tb",
        f"\\{SHA256}  a\\",
        f"\ufeff{SHA256}  m",
        f"{SHA256}  m\n{SHA256[::-1]}  m\n",
        f"{'１' * 64}  m",
    ],
)
def test_row_32_one_bad_line_is_an_error(text):
    with pytest.raises(LockError, match="list"):
        parse_sums(text, PLACE, "sha256")


@pytest.mark.parametrize("name", ["../m.safetensors", "/etc/m", "a\\nb", "a/../m"])
def test_row_32_names_that_lead_elsewhere_are_refused(project, capsys, name):
    (project / "SHA256SUMS").write_text(f"\\{SHA256}  {name}\n")
    assert main(["lock", "import", "SHA256SUMS"]) == WRONG
    assert "cannot be recorded" in capsys.readouterr().err
    assert not (project / "models.lock").exists()


def test_a_checksum_file_is_imported(project, capsys):
    (project / "README").write_text("hello")
    sums = f"{SHA256}  m.safetensors\n{hashlib.sha256(b'hello').hexdigest()}  README\n"
    (project / "SHA256SUMS").write_text(sums)
    assert main(["lock", "import", "SHA256SUMS"]) == OK
    output = capsys.readouterr().out
    assert "README is no model" in output
    assert "has the published sha256" in output
    assert stored(project).claims["upstream"] == {"alg": "sha256", "value": SHA256, "from": "sha256sums"}
    assert stored(project).recorded_how == "upstream-match"
    assert main(["lock", "check"]) == OK


def test_an_import_says_more_about_what_was_trusted_on_first_use(project):
    assert main(["lock", "add", "m.safetensors"]) == OK
    (project / "SHA256SUMS").write_text(f"{SHA256}  m.safetensors\n")
    assert main(["lock", "import", "SHA256SUMS"]) == OK
    assert stored(project).recorded_how == "upstream-match"
    before = (project / "models.lock").read_bytes()
    assert main(["lock", "add", "m.safetensors"]) == OK  # who says nothing new forgets nothing old
    assert (project / "models.lock").read_bytes() == before


def test_a_file_that_is_listed_and_not_here(project, capsys):
    (project / "SHA256SUMS").write_text(f"{SHA256}  m.safetensors\n{SHA256}  n.safetensors\n")
    assert main(["lock", "import", "SHA256SUMS"]) == WRONG
    assert "--ignore-missing" in capsys.readouterr().err
    assert not (project / "models.lock").exists()
    assert main(["lock", "import", "SHA256SUMS", "--ignore-missing"]) == OK
    (project / "m.safetensors").unlink()
    assert main(["lock", "import", "SHA256SUMS", "--ignore-missing"]) == WRONG
    assert "none of the files" in capsys.readouterr().err


def test_another_algorithm_is_named(project, capsys):
    (project / "sums").write_text(f"{hashlib.sha512(MODEL).hexdigest()}  m.safetensors\n")
    assert main(["lock", "import", "sums"]) == WRONG
    assert "--algorithm" in capsys.readouterr().err
    assert main(["lock", "import", "sums", "--algorithm", "sha512"]) == OK
    assert main(["lock", "check"]) == OK


@pytest.mark.parametrize("replaced", [b"", b"version https://git-lfs.github.com/spec/v1\n", b"<!doctype html>"])
def test_what_stands_in_a_model_s_place_is_not_left_out(project, capsys, replaced):
    (project / "m.safetensors").write_bytes(replaced)
    (project / "SHA256SUMS").write_text(f"{hashlib.sha256(replaced).hexdigest()}  m.safetensors\n")
    assert main(["lock", "import", "SHA256SUMS"]) == WRONG
    assert "m.safetensors" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("SHA256SUMS", f"{SHA256}  m.safetensors\n"),
        ("m.safetensors.dvc", f"outs:\n- md5: {MD5}\n  path: m.safetensors\n"),
        ("m.safetensors.dvc", f"outs:\n- md5: {MD5}\n  size: 17\n  path: m.safetensors\n"),
        ("readme.md", readme()),
    ],
)
def test_a_file_that_differs_is_refused(project, capsys, name, text):
    (project / name).write_text(text)
    (project / "m.safetensors").write_bytes(OTHER)
    assert main(["lock", "import", name]) == WRONG
    assert "fetch" in capsys.readouterr().err
    assert not (project / "models.lock").exists()


def test_row_24_a_dvc_file(project, capsys):
    (project / "sub").mkdir()
    (project / "m.safetensors").rename(project / "sub" / "m.safetensors")
    text = f"outs:\n- md5: {MD5}\n  size: {len(MODEL)}\n  hash: md5\n  path: m.safetensors\n"
    (project / "sub" / "m.safetensors.dvc").write_text(text)
    assert main(["lock", "import", "sub/m.safetensors.dvc"]) == OK
    assert "weak-or-short-hash" in capsys.readouterr().out
    entry = stored(project, "sub/m.safetensors")
    assert entry.claims["source"] == {"type": "dvc", "file": "sub/m.safetensors.dvc"}
    assert entry.claims["upstream"] == {"alg": "md5", "value": MD5, "from": "dvc"}
    assert main(["lock", "check"]) == DIFFERENT


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("outs: []", "tracks no output"),
        ("a: b", "tracks no output"),
        ("outs:\n- path: m", "no hash"),
        (f"outs:\n- path: m\n  etag: '{MD5}'", "ETag"),
        (f"outs:\n- path: m\n  md5: {MD5}.dir", "the folder"),
        (f"outs:\n- md5: {MD5}", "without a path"),
        (f"outs:\n- path: m\n  md5: {SHA1}", "32 lower-case"),
        (f"outs:\n- path: m\n  md5: {MD5}\n  size: many", "no number"),
        (f"outs:\n- path: m\n  md5: {MD5}\n  hash: sha256", "another hash"),
        (f"wdir: ..\nouts:\n- path: m\n  md5: {MD5}", "working folder"),
    ],
)
def test_row_24_dvc_files_without_a_usable_hash(text, reason):
    with pytest.raises(LockError, match=reason):
        parse_dvc(text, PLACE)


def test_row_25_a_caffe_readme(project, capsys):
    (project / "readme.md").write_text(readme())
    assert main(["lock", "import", "readme.md"]) == OK
    entry = stored(project)
    assert entry.claims["source"] == {"type": "caffe", "readme": "readme.md", "url": "https://h.example/m"}
    assert entry.claims["upstream"] == {"alg": "sha1", "value": SHA1, "from": "readme-yaml"}
    allow = ["--allow", "weak-or-short-hash", "--reason", "SHA-1 only", "--until", "2999-01-01"]
    assert main(["lock", "check"]) == DIFFERENT
    assert main(["lock", "update", "m.safetensors", *allow]) == OK
    assert main(["lock", "check"]) == OK
    assert "allowed (until 2999-01-01: SHA-1 only)" in capsys.readouterr().out


@pytest.mark.parametrize("digits", ["1" * 40, "0" + "7" * 39, "1e" + "9" * 38, "0x" + "1" * 38])
def test_row_25_a_hash_that_looks_like_a_number_stays_what_is_written(digits):
    if digits.startswith("0x"):
        with pytest.raises(LockError, match="hexadecimal"):
            parse_caffe(readme(digits), PLACE)
    else:
        assert parse_caffe(readme(digits), PLACE)[0].value == digits


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("# Model\n", "between two lines"),
        ("---\nsha1: x\n", "between two lines"),
        ("", "between two lines"),
        (f"---\nsha1: {SHA1}\nsha1: {'0' * 40}\ncaffemodel: m\n---\n", "twice"),
        (f"---\ncaffemodel: m\nsha1: &a {SHA1}\n---\n", "anchors"),
        ("---\na: &a [x]\ncaffemodel: *a\n---\n", "anchors"),
        ("---\ncaffemodel: !!python/name:os.system m\n---\n", "tag"),
        ("---\n<<: {a: b}\ncaffemodel: m\n---\n", "no plain text"),
        ("---\n<<<<<<< HEAD\nsha1: a\n=======\nsha1: b\n>>>>>>> x\n---\n", "conflict"),
        ("---\n{a: b, [c]: d}\n---\n", "no plain text"),
        ("---\n- a\n---\n", "not a table"),
        ("---\ncaffemodel: [m]\n---\n", "no text"),
        ("---\nsha1: x\n---\n", "does not name the model"),
        ("---\na: b: c\n---\n", "not valid YAML"),
        ("---\na: " + "[" * 1000 + "\n---\n", "nested too deeply"),
        ("---\n" + "? " * 1000 + "\n---\n", "nested too deeply"),
        ("---\na: " + "x" * 300_000 + "\n---\n", "longer than"),
    ],
)
def test_row_25_clever_yaml_is_refused(text, reason):
    with pytest.raises(LockError, match=reason):
        parse_caffe(text, PLACE)


def test_row_25_an_alias_bomb_is_not_expanded():
    levels = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    tracemalloc.start()
    with pytest.raises(LockError, match="anchors or aliases"):
        read_table("\n".join(["a0: &a0 [x]", *levels]), PLACE)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000


def test_row_19_a_hash_in_the_model_s_own_name(project, capsys):
    name = f"m_fbgemm_{SHA256[:8]}.pth"
    (project / "m.safetensors").rename(project / name)
    source = ["--from", f"torch-hub:https://h.example/{name}"]
    assert main(["lock", "import", name, *source]) == OK
    assert stored(project, name).claims["upstream"] == {
        "alg": "sha256-prefix",
        "value": SHA256[:8],
        "from": "filename-prefix",
    }
    assert main(["lock", "check"]) == DIFFERENT
    assert "8 digits of a SHA-256" in capsys.readouterr().out
    (project / name).rename(project / "wide-50.pth")
    assert main(["lock", "import", "wide-50.pth"]) == WRONG
    assert "holds no hash" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"\xff\xfe", b"#" * (MAX_BYTES + 1)])
def test_what_is_no_list_is_refused(project, content):
    (project / "list").write_bytes(content)
    with pytest.raises(LockError, match="no list of hashes"):
        read_published(project / "list")


def test_a_build_does_not_import(project, monkeypatch):
    monkeypatch.setenv("CI", "true")
    (project / "SHA256SUMS").write_text(f"{SHA256}  m.safetensors\n")
    assert main(["lock", "import", "SHA256SUMS"]) == WRONG
    assert main(["lock", "update", "m.safetensors"]) == WRONG
    assert not (project / "models.lock").exists()
