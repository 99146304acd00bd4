"""The tests of the documentation's commands can fail."""

from __future__ import annotations

import os

import page_blocks
import pytest
from page_blocks import NoteError, blocks_of
from page_runs import run_page
from page_words import unknown_words

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the commands are those of a POSIX shell")


@pytest.fixture
def page(tmp_path, monkeypatch):
    """Writes a page, and runs its commands."""
    monkeypatch.setattr(page_blocks, "ROOT", tmp_path)
    folder = tmp_path / "page"
    folder.mkdir()

    def run(text, slow=False):
        path = tmp_path / "page.md"
        path.write_text(text, encoding="utf-8")
        blocks_of.cache_clear()
        blocks = list(blocks_of(path))
        run_page(blocks, folder, slow=slow, timeout=60)
        return blocks

    yield run
    blocks_of.cache_clear()


def console(commands, note=""):
    return f"{f'<!-- test: {note} -->' if note else ''}\n```console\n{commands}\n```\n"


def test_commands_run_in_order_in_one_folder_and_cd_holds(page, tmp_path):
    page(console("mkdir a\ncd a") + console("echo one \\\n    two > b   # a comment"))
    assert (tmp_path / "page" / "a" / "b").read_text(encoding="utf-8") == "one two\n"


@pytest.mark.parametrize(
    "text",
    [
        console("false"),
        console("true", "exit=1"),
        console("true\ntrue", "exit=0,1"),
        console("echo red") + "<!-- test: output -->\n```text\ngreen\n```\n",
    ],
)
def test_what_is_not_as_the_page_says_fails(page, text):
    with pytest.raises(pytest.fail.Exception):
        page(text)


def test_what_is_as_the_page_says_passes(page):
    page(console("true\nfalse\necho a 12 b", "exit=0,1,0") + "<!-- test: output -->\n```text\na ... b\n```\n")


def test_files_are_written_where_the_reader_is(page, tmp_path):
    page(console("mkdir a\ncd a") + "<!-- test: file=x.toml -->\n```toml\nx = 1\n```\n" + console("cp x.toml y.toml"))
    assert (tmp_path / "page" / "a" / "y.toml").read_text(encoding="utf-8") == "x = 1\n"


def test_long_commands_run_only_when_they_are_asked_for(page, tmp_path):
    text = console("touch long", "slow") + console("exit 3", "network")
    page(text)
    assert not (tmp_path / "page" / "long").exists()
    page(text, slow=True)
    assert (tmp_path / "page" / "long").exists()


@pytest.mark.parametrize("note", ["exti=1", "exit", "networks", "slow=yes"])
def test_a_note_that_is_not_understood_is_an_error(page, note):
    with pytest.raises(NoteError, match="unknown word"):
        page(console("true", note))


def test_a_block_that_is_not_closed_is_an_error(page):
    with pytest.raises(NoteError, match="not closed"):
        page("```console\ntrue\n")


@pytest.mark.parametrize(
    ("command", "wrong"),
    [
        ("pytest --backdoor-scan m.onnx --backdoor-fpr 0.05", False),
        ("pytest --backdoor-scan m.onnx --backdoor-false-positives 0.05", True),
        ("pytest-backdoor lock add m.onnx", False),
        ("pytest-backdoor lock ad m.onnx", True),
        ("python -m reference_attacks badnet mnist --clean --out models", False),
        ("python -m reference_attacks badnet mnist --cleanly --out models", True),
        ("OMP_NUM_THREADS=1 ls --whatever", False),
    ],
)
def test_arguments_are_compared_with_those_that_a_command_has(command, wrong):
    assert bool(unknown_words(command)) is wrong
