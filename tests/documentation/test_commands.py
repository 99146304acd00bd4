"""Every command in the documentation does what the page says; ``page_blocks`` tells how pages say it."""

from __future__ import annotations

import os
import re
import tomllib

import pytest
import yaml
from page_blocks import ROOT, SHELL, Block, blocks_of, pages
from page_runs import run_page
from page_words import unknown_words

BLOCKS = [block for page in pages() for block in blocks_of(page)]
COMMANDS = [block for block in BLOCKS if block.is_command]
MINUTES = 60.0

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the commands are those of a POSIX shell")


def of_pages(blocks: list[Block]):
    found = dict.fromkeys(block.page for block in blocks)
    return pytest.mark.parametrize("page", list(found), ids=lambda page: page.relative_to(ROOT).as_posix())


def by_place(blocks: list[Block]):
    return pytest.mark.parametrize("block", blocks, ids=lambda block: block.where)


@of_pages([block for block in COMMANDS if not block.not_run and "slow" not in block.note])
def test_the_commands_of_a_page(page, tmp_path):
    folder = tmp_path / "page"
    folder.mkdir()
    run_page(list(blocks_of(page)), folder, slow=False, timeout=20 * MINUTES)


@pytest.mark.slow
@of_pages([block for block in COMMANDS if not block.not_run and "slow" in block.note])
def test_all_commands_of_a_page_with_long_ones(page, tmp_path):
    folder = tmp_path / "page"
    folder.mkdir()
    run_page(list(blocks_of(page)), folder, slow=True, timeout=60 * MINUTES)


@by_place([block for block in COMMANDS if block.not_run])
def test_a_command_that_is_not_run_here(block):
    pytest.skip(block.not_run)


@by_place([block for block in COMMANDS if block.not_run or "slow" in block.note])
def test_the_arguments_of_what_is_not_run_each_time_are_known(block):
    assert {command: unknown_words(command) for command in block.commands()} == dict.fromkeys(block.commands(), "")


@by_place([block for block in BLOCKS if block.language == "toml"])
def test_toml_can_be_read(block):
    tomllib.loads(block.text)


@by_place([block for block in BLOCKS if block.language in ("yaml", "yml")])
def test_yaml_can_be_read(block):
    yaml.safe_load(block.text)


@by_place([block for block in BLOCKS if block.language in ("python", "py")])
def test_python_can_be_compiled(block):
    compile(block.text, block.where, "exec")


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_command_stands_where_it_is_not_run(page):
    """Commands stand in blocks of a shell's language, not in others and not in indented ones."""
    command = re.compile(r"^(    \s*|\$ )?(pytest|pip|python3?|pytest-backdoor|mkdocs|git) \S")
    others = [
        block
        for block in blocks_of(page)
        if block.language not in SHELL and not {"output", "example"} & set(block.note)
    ]
    loose = [f"{block.where}: {line}" for block in others for line in block.text.splitlines() if command.match(line)]
    text = page.read_text(encoding="utf-8")
    for block in blocks_of(page):
        text = text.replace(block.text, "")
    indented = re.compile(r"^    \s*(pytest|pip|python3?|pytest-backdoor|mkdocs) \S")
    assert loose + [line for line in text.splitlines() if indented.match(line)] == []


@by_place([block for block in COMMANDS if "elsewhere" in block.note])
def test_what_is_said_to_be_run_elsewhere_is_named_there(block):
    text = (ROOT / block.note["elsewhere"]).read_text(encoding="utf-8")
    assert block.page.name in text or block.page.parent.name in text
