"""Calls in a project's own code that fetch a model without saying exactly which one."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from corpus.locks import COMMIT, MD5, MODEL, SHA256

from pytest_backdoor.checks.provenance._code_calls import MAX_BYTES, code_problems
from pytest_backdoor.checks.provenance._code_files import python_files
from pytest_backdoor.cli import DIFFERENT, OK, main
from pytest_backdoor.findings import Problem

HUB = "from huggingface_hub import hf_hub_download, snapshot_download as fetch\n"
TORCH = "import torch\nfrom torch.hub import load_state_dict_from_url\n"
KERAS = "from tensorflow import keras\nfrom keras.utils import get_file\n"


def problems(source: str, exists: tuple[str, ...] = ()) -> list[Problem]:
    return code_problems(source.encode(), "a.py", lambda name: name in exists)


@pytest.mark.parametrize(
    "source",
    [
        f'{HUB}hf_hub_download("o/n", "f", revision="{COMMIT}")',
        f'{HUB}REVISION = "{COMMIT}"\ndef f(): return hf_hub_download("o/n", "f", revision=REVISION)',
        f'{HUB}REVISION: str = "{COMMIT}"\nfetch("o/n", revision=REVISION)',
        f'AutoModel.from_pretrained("o/n", revision="{COMMIT}")',
        'AutoModel.from_pretrained("./weights")',
        'AutoModel.from_pretrained("../weights")',
        'AutoModel.from_pretrained("/weights")',
        'AutoModel.from_pretrained("C:\\\\weights")',
        'AutoModel.from_pretrained("here/weights")',
        "import torch\ntorch.nn.Embedding.from_pretrained(weights)",
        f'{TORCH}load_state_dict_from_url("https://h.example/m-{SHA256[:8]}.pth", check_hash=True)',
        f'{TORCH}load_state_dict_from_url("https://h/m.pth", None, None, True, True, "m-{SHA256[:8]}.pth")',
        f'{TORCH}torch.hub.load("pytorch/vision:{COMMIT}", "resnet18")',
        f'{TORCH}torch.hub.load("./repo", "resnet18", source="local")',
        f'{KERAS}get_file("m", "https://h.example/m", file_hash="{SHA256}", hash_algorithm="sha256")',
        'storage.get_file("m")',
        "import tensorflow_hub as hub\nhub.load(x)",
        "def from_pretrained(name): ...",
        "",
    ],
)
def test_what_is_pinned_or_local_is_no_problem(source):
    assert problems(source, exists=("here/weights",)) == []


@pytest.mark.parametrize(
    ("source", "rule", "text"),
    [
        (f'{HUB}hf_hub_download("o/n", "f")', "unpinned-revision", "names no revision"),
        (f'{HUB}hf_hub_download(repo, "f")', "unpinned-revision", "names no revision"),
        (f'{HUB}fetch("o/n", revision=None)', "unpinned-revision", "names no revision"),
        ('import huggingface_hub as h\nh.HfApi().snapshot_download("o/n")', "unpinned-revision", "names no revision"),
        (f'{HUB}hf_hub_download("o/n", "f", revision="main")', "unpinned-revision", "'main'"),
        (f'{HUB}hf_hub_download("o/n", "f", revision="v1")', "unpinned-revision", "'v1'"),
        (f'{HUB}hf_hub_download("o/n", "f", revision="{COMMIT[:7]}")', "unpinned-revision", COMMIT[:7]),
        (f'{HUB}hf_hub_download("o/n", "f", revision="{COMMIT.upper()}")', "unpinned-revision", COMMIT.upper()),
        (f'{HUB}R = "main"\nhf_hub_download("o/n", "f", revision=R)', "unpinned-revision", "'main'"),
        ('M.from_pretrained("o/n")', "unpinned-revision", "names no revision"),
        ('M.from_pretrained(pretrained_model_name_or_path="o/n")', "unpinned-revision", "names no revision"),
        ('M.from_pretrained(name, revision="main")', "unpinned-revision", "'main'"),
        (f'{TORCH}torch.hub.load("pytorch/vision", "resnet18")', "unpinned-revision", "no full commit"),
        (f'{TORCH}torch.hub.load("pytorch/vision:v0.10.0", "resnet18")', "unpinned-revision", "no full commit"),
        (f'{TORCH}load_state_dict_from_url("https://h/m-deadbeef.pth")', "no-hash-listed", "check_hash is not set"),
        (f'{TORCH}load_state_dict_from_url("https://h/m.pth", check_hash=True)', "no-hash-listed", "holds none"),
        (f'{TORCH}load_state_dict_from_url("https://h/m-9.pth", check_hash=True)', "no-hash-listed", "holds none"),
        (f'{TORCH}load_state_dict_from_url("https://h/m_deadbeef.pth", check_hash=True)', "no-hash-listed", "none"),
        (f'{TORCH}load_state_dict_from_url("https://h/m-.x-deadbeef.pth", check_hash=True)', "no-hash-listed", "none"),
        (
            f'{TORCH}load_state_dict_from_url("https://h/m-deadbeef.pth", check_hash=True, file_name="m.pth")',
            "no-hash-listed",
            "'m.pth' holds none",
        ),
        (
            f'{TORCH}load_state_dict_from_url("http://h.example/m-deadbeef.pth", check_hash=True)',
            "plain-http",
            "plain http",
        ),
        (f'{KERAS}get_file("m", "https://h.example/m")', "no-hash-listed", "file_hash is not given"),
        (f'{KERAS}keras.utils.get_file("m", "https://h.example/m")', "no-hash-listed", "file_hash is not given"),
        (f'{KERAS}get_file("m", "https://h/m", md5_hash="{MD5}")', "weak-or-short-hash", "MD5"),
        (f'{KERAS}get_file("m", "https://h/m", file_hash="{SHA256}")', "weak-or-short-hash", "guesses"),
        (
            f'{KERAS}get_file("m", "https://h/m", file_hash="{MD5}", hash_algorithm="sha256")',
            "no-hash-listed",
            "no SHA-256",
        ),
    ],
)
def test_certain_faults(source, rule, text):
    (problem,) = problems(source)
    assert (problem.rule, problem.fails) == (rule, True)
    assert text in problem.message
    assert problem.path == f"a.py:{len(source.splitlines())}"
    assert problem.message.startswith(problem.path)
    assert problem.remedy


@pytest.mark.parametrize(
    "source",
    [
        f'{HUB}hf_hub_download("o/n", "f", revision=revision)',
        f'{HUB}hf_hub_download("o/n", "f", **options)',
        f'{HUB}hf_hub_download("o/n", "f", revision=f"{{x}}")',
        f'{HUB}from settings import R\nhf_hub_download("o/n", "f", revision=R)',
        f'{HUB}R = "{COMMIT}"\nR = "main"\nhf_hub_download("o/n", "f", revision=R)',
        f'{HUB}R = "{COMMIT}"\ndef f(R): return hf_hub_download("o/n", "f", revision=R)',
        "M.from_pretrained(name)",
        "M.from_pretrained(*arguments)",
        'M.from_pretrained(Path("weights"))',
        f"{TORCH}torch.hub.load(repo, 'resnet18')",
        f"{TORCH}load_state_dict_from_url(url, check_hash=True)",
        f"{TORCH}load_state_dict_from_url(url, check_hash=check)",
        f"{KERAS}get_file('m', 'https://h/m', file_hash=HASH)",
        f"{KERAS}get_file('m', 'https://h/m', **options)",
    ],
)
def test_what_the_code_does_not_tell_is_listed_and_does_not_fail(source):
    (problem,) = problems(source)
    assert not problem.fails


@pytest.mark.parametrize(
    "content",
    [
        b"print 'python 2'",
        b"\0",
        b"# coding: nonsense\n",
        b"\xff",
        b"(" * 100_000,
        b"x" + b" + x" * 200_000,
        b"#" * (MAX_BYTES + 1),
    ],
)
def test_a_file_that_is_no_python_is_listed(content):
    found = code_problems(content, "a.py", lambda name: False)
    assert [(problem.path, problem.fails) for problem in found] in ([("a.py", False)], [])
    if content != b"x" + b" + x" * 200_000:  # deep trees can be read from some version of Python on
        assert found


def test_an_invalid_escape_is_the_code_s_own_affair():
    assert problems('x = "\\d"') == []


def test_names_that_cannot_be_paths():
    def exists(name):
        raise ValueError("embedded null byte")

    (problem,) = code_problems(b'M.from_pretrained("a\\0b")', "a.py", exists)
    assert problem.fails


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.chdir(tmp_path)
    for name in ("a.py", "src/b.py", ".hidden/c.py", "venv/d.py", "mine/e.py", "node_modules/f.py", "g.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("M.from_pretrained('o/n')\n")
    (tmp_path / "mine" / "pyvenv.cfg").touch()
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "m.safetensors").write_bytes(MODEL)
    return tmp_path


def test_which_files_belong_to_a_project(folder):
    assert python_files(folder) == [folder / "a.py", folder / "src" / "b.py"]
    git = ["git", "-C", str(folder), "-c", "user.name=n", "-c", "user.email=e"]
    subprocess.run([*git, "init", "-q"], check=True)
    assert python_files(folder) == []
    subprocess.run([*git, "add", "a.py", ".hidden"], check=True)
    assert python_files(folder) == [folder / ".hidden" / "c.py", folder / "a.py"]
    (folder / "a.py").unlink()
    (folder / "a.py").symlink_to(folder / "src" / "b.py")
    assert python_files(folder) == [folder / ".hidden" / "c.py"]


def test_the_command_fails_for_certain_calls_and_for_all_when_strict(folder, capsys):
    assert main(["lock", "add", "m.safetensors"]) == OK
    assert main(["lock", "check"]) == DIFFERENT
    output = capsys.readouterr().out
    assert "FAIL  a.py:1: M.from_pretrained names no revision" in output
    assert "FAIL  src/b.py:1" in output
    assert main(["lock", "check", "--no-code"]) == OK
    assert main(["lock", "check", "m.safetensors"]) == OK
    for name in ("a.py", "src/b.py"):
        (folder / name).write_text("M.from_pretrained(name)\n")
    capsys.readouterr()
    assert main(["lock", "check"]) == OK
    assert "2 of which the code alone does not tell" in capsys.readouterr().out
    assert main(["lock", "check", "--strict"]) == DIFFERENT
    for name in ("a.py", "src/b.py"):
        (folder / name).write_text("M.from_pretrained('./src')\n")
    assert main(["lock", "check", "--strict"]) == OK
